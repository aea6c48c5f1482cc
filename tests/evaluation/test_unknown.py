"""What a run does not know: fitted on validation, promised on test, said by predict and the page."""

import json

import numpy as np
import pytest
from scipy import stats

import imgcls_jax
from imgcls_jax import commands
from imgcls_jax.commands import runs
from imgcls_jax.errors import RunError
from imgcls_jax.evaluation import classifiers, conformal, unknown
from imgcls_jax.evaluation.predict import Predictor
from imgcls_jax.run.folder import UNKNOWN, UNKNOWN_FEATURES

SMALL = {
    "model.filters": (8, 16, 16),
    "train.epochs": 2,
    "data.validation_size": 300,
    "data.cache": "",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on scikit-learn's digits that is right for nine of ten."""
    config = imgcls_jax.load_config("configs/quickstart.py", **SMALL)
    return imgcls_jax.train(config, tmp_path_factory.mktemp("runs") / "digits")


@pytest.fixture(scope="module")
def splits(trained):
    return runs.data_of(trained)


@pytest.fixture
def run(trained):
    """The run, without what a test before has fitted."""
    for name in (UNKNOWN, UNKNOWN_FEATURES):
        (trained.path / name).unlink(missing_ok=True)
    return trained


@pytest.fixture
def noise_file(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 1), dtype=np.uint8)
    path = tmp_path / "noise.npz"
    np.savez(path, images=images)
    return str(path)


def fit(run, splits, *, coverage=0.98, false_alarms=0.05):
    return unknown.fit(run, splits, coverage=coverage, false_alarms=false_alarms)


def test_coverage_and_false_alarms_on_test_are_within_their_intervals(run, splits):
    fitted, tested = len(splits.validation), len(splits.test)
    results = fit(run, splits)
    assert results["mass"] > 0, "else the accuracy is above the coverage, which then is no equality"
    rank = np.ceil((fitted + 1) * 0.98)
    low, high = stats.betabinom(tested, rank, fitted + 1 - rank).interval(0.99)
    assert low <= results["test"]["coverage"]["share"] * tested <= high
    rank = np.ceil((fitted + 1) * 0.95)
    low, high = stats.betabinom(tested, fitted + 1 - rank, rank).interval(0.99)
    assert low <= results["test"]["false_alarms"]["share"] * tested <= high
    sizes = results["test"]["sizes"]
    assert sum(row["images"] for row in sizes) == tested
    assert results["candidates"][results["score"]]["mean"] > 0.8
    assert json.loads((run.path / UNKNOWN).read_text()) == results


def test_logits_beside_features_are_those_that_predict(run, splits):
    predictor = Predictor(run)
    outputs = predictor.outputs(splits.test.images)
    logits = predictor.logits(splits.test.images)
    np.testing.assert_allclose(outputs.logits, logits, atol=1e-5)
    head = predictor.model.bind(predictor.variables).head(outputs.features)
    np.testing.assert_allclose(head, logits, atol=1e-4)


def test_neighbours_are_kept_and_asked_for(run, splits, monkeypatch):
    monkeypatch.setattr(unknown, "SCORES", ("nearest",))
    results = fit(run, splits)
    judgement = classifiers.load(run.path).judge(np.asarray(splits.test.images))
    assert judgement.is_unknown.mean() == results["test"]["false_alarms"]["share"]
    covered = judgement.sets[np.arange(len(splits.test)), splits.test.labels]
    assert covered.mean() == results["test"]["coverage"]["share"]
    features = run.path / UNKNOWN_FEATURES
    np.savez(features, features=np.ones((9, 3), np.float16))
    with pytest.raises(RunError, match="features of another model"):
        classifiers.load(run.path).judge(np.asarray(splits.test.images[:4]))
    features.write_bytes(b"x")
    with pytest.raises(RunError, match="unknown.npz is damaged.*imgcls unknown .* fits it again"):
        classifiers.load(run.path)
    features.unlink()
    with pytest.raises(RunError, match="is missing, which unknown.json needs: imgcls unknown"):
        classifiers.load(run.path)
    monkeypatch.setattr(unknown, "SCORES", ("energy",))
    fit(run, splits)
    assert not features.exists()


def test_predict_says_it_only_where_it_was_fitted(run, noise_file, capsys, caplog):
    caplog.set_level("INFO", "imgcls_jax")
    commands.predict.predict(str(run.path), [noise_file])
    before = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert set(before[0]) == {"image", "row", "class", "confidence", "top", "inverted"}
    assert f"`imgcls unknown {run.path}` lets it say" in caplog.text
    columns = commands.predict.parse_columns("id,unknown")
    with pytest.raises(RunError, match="does not give 'unknown', as a run does after"):
        commands.predict.predict(str(run.path), [noise_file], columns=columns)

    commands.unknown.unknown([str(run.path)], coverage=0.98)
    assert "The sets contain the true class of" in caplog.text
    page = (run.path / "report.html").read_text()
    assert "What it does not know" in page and "The strangest test images" in page
    capsys.readouterr()
    caplog.clear()
    commands.predict.predict(str(run.path), [noise_file])
    after = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sum(line["unknown"] for line in after) > 10
    assert f"Unknown, since stranger than nearly all validation images: {count(after)} of 30." in (
        caplog.text
    )
    for old, new in zip(before, after, strict=True):
        assert new["confidence"] == pytest.approx(old["confidence"], abs=1e-5)
        assert new["classes"] == [name for name, _ in new["top"]][: len(new["classes"])] or (
            len(new["classes"]) > 5
        )
    commands.predict.predict(str(run.path), [noise_file], columns={})
    head, first, *_ = capsys.readouterr().out.splitlines()
    assert head == commands.predict.DEFAULT_JUDGED_COLUMNS
    assert "|".join(after[0]["classes"]) in first


def count(lines) -> int:
    return sum(line["unknown"] for line in lines)


@pytest.mark.parametrize(
    "options, says",
    [
        ({"coverage": 1.0}, "--coverage is 1. Give a share between 0 and 1"),
        ({"coverage": float("nan")}, "--coverage is nan"),
        ({"false_alarms": 0.0}, "--false-alarms is 0"),
        ({"coverage": 0.999}, "--coverage=0.999 takes 999 validation images, and .* has 300"),
        ({"false_alarms": 0.001}, "=0.001 takes 999 validation .* Give a higher share"),
    ],
)
def test_what_cannot_be_is_refused_before_the_data_is_read(options, says, run, monkeypatch):
    monkeypatch.setattr(runs, "data_of", lambda run: pytest.fail("it was read"))
    with pytest.raises(RunError, match=says) as refusal:
        commands.unknown.unknown([str(run.path)], **options)
    assert len(str(refusal.value).splitlines()) == 1


def test_a_rule_of_other_weights_is_refused(run, splits):
    results = fit(run, splits)
    run.write_json(UNKNOWN, results | {"step": results["step"] + 1})
    with pytest.raises(RunError, match="was fitted to the weights of step .* fits it again"):
        classifiers.load(run.path)


def test_figures_where_nothing_is_unknown_or_everything_is():
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4]])
    scores = np.array([1.0, 2.0])
    for threshold, flagged in ((3.0, 0), (0.0, 1)):
        judgement = unknown.Judgement(
            probabilities=probabilities,
            strangeness=scores,
            is_unknown=scores > threshold,
            sets=conformal.sets(probabilities, 0.7),
        )
        figures = unknown.measure(judgement, np.array([0, 1]))
        assert figures["false_alarms"]["share"] == flagged
        assert figures["strangest"] == [1, 0]
        assert None in (figures["accuracy_unknown"], figures["accuracy_others"])
