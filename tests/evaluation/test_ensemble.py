"""Ensembles: weights on made-up members, and an ensemble that a config trains and that votes on images."""

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import base
from imgcls_jax import commands, data
from imgcls_jax.commands import study as studies
from imgcls_jax.errors import ConfigError, RunError
from imgcls_jax.evaluation import classifiers, ensemble, paired
from imgcls_jax.evaluation.calibration import negative_log_likelihood
from imgcls_jax.evaluation.combination import STRENGTH, Combination, stacked
from imgcls_jax.evaluation.predict import Predictor
from imgcls_jax.evaluation.scores import softmax
from imgcls_jax.run.folder import RunFolder


def members(count=3, examples=400, seed=0):
    """Probabilities of members of growing skill [M, N, K] and labels [N]."""
    random = np.random.default_rng(seed)
    labels = random.integers(4, size=examples)
    skill = np.arange(1, count + 1)[:, None, None] * np.eye(4)[labels]
    return softmax(skill + random.normal(size=(count, examples, 4))), labels


def test_fitted_weights_are_the_likeliest():
    probabilities, labels = members()
    weights = ensemble.fitted(probabilities, labels)
    assert weights.sum() == pytest.approx(1) and (weights >= 0).all()

    def loss(weights):
        return negative_log_likelihood(ensemble.combine(probabilities, weights), labels)

    grid = [
        (a, b, 1 - a - b)
        for a, b in itertools.product(np.linspace(0, 1, 51), repeat=2)
        if a + b <= 1
    ]
    assert loss(weights) <= min(loss(np.array(each)) for each in grid) + 1e-6
    assert weights.argmax() == 2


def test_greedy_selection_leaves_out_who_does_not_help():
    probabilities, labels = members()
    useless = np.full_like(probabilities[:1], 0.25)
    weights = ensemble.greedy(np.concatenate([probabilities, useless]), labels)
    assert weights[-1] == 0 and weights.sum() == pytest.approx(1)
    chosen = ensemble.combine(probabilities, weights[:3]).argmax(-1)
    best = max((each.argmax(-1) == labels).mean() for each in probabilities)
    assert (chosen == labels).mean() >= best


def test_voting_by_confidence_by_hand():
    members = np.array([[[0.9, 0.1], [0.5, 0.5]], [[0.4, 0.6], [0.2, 0.8]]])
    voted = Combination(np.array([0.5, 0.5]), by_confidence=True)(members)
    first = (0.9 * np.array([0.9, 0.1]) + 0.6 * np.array([0.4, 0.6])) / 1.5
    second = (0.5 * np.array([0.5, 0.5]) + 0.8 * np.array([0.2, 0.8])) / 1.3
    np.testing.assert_allclose(voted, [first, second])


def test_stacking_is_the_likeliest_layer_and_learns_what_weights_cannot():
    probabilities, labels = members(examples=1000)
    probabilities[0] = np.roll(
        probabilities[2], 1, axis=-1
    )  # a member that takes every class for the next one
    layer = stacked(probabilities, labels)
    likely = negative_log_likelihood(layer(probabilities), labels)
    assert likely < negative_log_likelihood(
        ensemble.combine(probabilities, ensemble.fitted(probabilities, labels)), labels
    )
    pull = STRENGTH * ((layer.kernel - np.eye(4) / 3) ** 2).sum() / 2
    for seed in range(20):
        random = np.random.default_rng(seed)
        other = Combination(
            layer.weights,
            kernel=layer.kernel + 0.05 * random.normal(size=layer.kernel.shape),
            bias=layer.bias + 0.05 * random.normal(size=4),
        )
        pulled = STRENGTH * ((other.kernel - np.eye(4) / 3) ** 2).sum() / 2
        assert likely + pull < negative_log_likelihood(other(probabilities), labels) + pulled
    kept = Combination.from_json(layer.weights, json.loads(json.dumps(layer.to_json())))
    np.testing.assert_allclose(kept(probabilities), layer(probabilities))


def tiny(name, seed):
    config = base.get_config()
    config.data.source = config.data.name = "digits"
    config.model.name = name
    config.train.update(epochs=2, batch_size=32, eval_batch_size=64)
    config.seed = seed
    return config


@pytest.fixture(scope="module")
def voted(tmp_path_factory):
    """The folder of an ensemble that trained its members, with the working folder that holds them."""
    folder = tmp_path_factory.mktemp("ensemble")
    config = ConfigDict(
        {"members": {"one": tiny("attention", 0), "other": tiny("attention", 1)}, "weights": "3,1"}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        studies.ensemble(config, Path("runs/both"))
        yield RunFolder("runs/both")


def test_the_ensemble_is_a_numpy_average(voted):
    runs = [RunFolder("runs/one"), RunFolder("runs/other")]
    images = data.load(runs[0].config.data).test.images
    votes = classifiers.load(voted.path)
    assert isinstance(votes, ensemble.EnsemblePredictor) and isinstance(
        classifiers.load("runs/one"), Predictor
    )
    average = 0.75 * Predictor(runs[0]).probabilities(images) + 0.25 * Predictor(
        runs[1]
    ).probabilities(images)
    np.testing.assert_allclose(votes.probabilities(images), average, atol=1e-6)
    np.testing.assert_allclose(voted.predictions[0], average, atol=1e-6)
    found = voted.read_json("ensemble.json")
    labels = runs[0].predictions[1]
    assert found["test"]["accuracy"] == pytest.approx((average.argmax(-1) == labels).mean())
    assert [member["weight"] for member in found["members"]] == [0.75, 0.25]
    guesses = [run.predictions[0].argmax(-1) for run in runs]
    assert found["disagreement"][0][1] == pytest.approx((guesses[0] != guesses[1]).mean())
    assert found["oracle"] == pytest.approx(
        ((guesses[0] == labels) | (guesses[1] == labels)).mean()
    )


def test_its_page_and_table_name_the_members(voted, caplog):
    page, table = ((voted.path / name).read_text() for name in ("report.html", "ensemble.md"))
    accuracy = f"{100 * voted.read_json('ensemble.json')['test']['accuracy']:.2f}"
    for text in (page, table):
        assert all(
            words in text
            for words in ("1 one", "2 other", accuracy, "Between the ensemble and one")
        )
    assert "Where the members disagree" in page and "Calibration" in page


def test_it_is_published(voted):
    commands.publish.publish(["runs/both"])
    kept = {path.name for path in Path("results/both").iterdir()} - {".lock"}
    assert kept == {
        "ensemble.json",
        "ensemble.md",
        "ensemble.png",
        "predictions.npz",
        "calibration.json",
    }


@pytest.mark.parametrize("rule", ["confidence", "stacked"])
def test_other_rules_are_compared_with_soft_voting_and_classify_images(voted, rule):
    commands.ensemble.ensemble(["runs/one", "runs/other"], weights=rule, workdir=f"runs/{rule}")
    run, labels = RunFolder(f"runs/{rule}"), voted.predictions[1]
    found = run.read_json("ensemble.json")
    soft = (
        np.mean([RunFolder(name).predictions[0] for name in ("runs/one", "runs/other")], 0).argmax(
            -1
        )
        == labels
    )
    right = run.predictions[0].argmax(-1) == labels
    assert found["soft_voting"]["accuracy"] == pytest.approx(soft.mean())
    assert found["soft_voting"]["against"] == paired.compare(right, soft)
    images = data.load(RunFolder("runs/one").config.data).test.images[:50]
    np.testing.assert_allclose(
        classifiers.load(run.path).probabilities(images), run.predictions[0][:50], atol=1e-4
    )
    table = (run.path / "ensemble.md").read_text()
    assert "| soft voting of the same members | equal |" in table
    assert (
        "Between the ensemble and soft voting" in table
        or "and soft voting of the same members no" in table
    )


def test_its_members_are_found_from_anywhere(voted, tmp_path, monkeypatch):
    """Members are where they are from the ensemble; a run under a member's name is another run."""
    home = Path.cwd()
    images = np.zeros((3, 8, 8, 1), np.uint8)
    expected = classifiers.load("runs/both").probabilities(images)
    assert [member["run"] for member in voted.read_json("ensemble.json")["members"]] == [
        "../one",
        "../other",
    ]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    (elsewhere / "runs").mkdir()
    for name in ("one", "other"):  # taken by a path from the working directory, these would vote
        shutil.copytree(home / "runs/one", elsewhere / "runs" / name)
    np.testing.assert_array_equal(
        classifiers.load(home / "runs/both").probabilities(images), expected
    )
    shutil.copytree(home / "runs", tmp_path / "moved")
    np.testing.assert_array_equal(
        classifiers.load(tmp_path / "moved/both").probabilities(images), expected
    )
    shutil.rmtree(tmp_path / "moved/other")
    with pytest.raises(
        RunError, match="moved/other, a member of .*moved/both, is missing.*imgcls_jax ensemble"
    ):
        classifiers.load(tmp_path / "moved/both")
    shutil.copytree(tmp_path / "moved/one", tmp_path / "moved/other")
    with pytest.raises(
        RunError, match="moved/other is another run than the member of .*moved/both that voted"
    ):
        classifiers.load(tmp_path / "moved/both")


def test_an_ensemble_of_an_older_version_says_what_to_do(voted, tmp_path):
    found = voted.read_json("ensemble.json")
    for member in found["members"]:
        del member["fingerprint"]
    RunFolder(tmp_path).write_json("ensemble.json", found)
    with pytest.raises(
        RunError, match="older version, which did not keep where its members are: make .* again"
    ):
        classifiers.load(tmp_path)


@pytest.mark.parametrize("rule", ["equal", "fitted", "greedy"])
def test_every_rule_gives_shares(voted, rule):
    weights = ensemble.weigh(rule, [RunFolder("runs/one"), RunFolder("runs/other")])
    assert weights.sum() == pytest.approx(1) and (weights >= 0).all()


@pytest.mark.parametrize("rule", ["best", "1", "1,2,3", "0,0", "-1,2", "nan,1"])
def test_bad_weights_are_refused(voted, rule):
    with pytest.raises(
        ConfigError,
        match="greedy, confidence, stacked, or a figure of 0 or more for each of the 2 members",
    ):
        commands.ensemble.ensemble(["runs/one", "runs/other"], weights=rule, workdir="runs/refused")
    assert not Path("runs/refused").exists()


def test_what_cannot_vote_together_is_refused(voted):
    with pytest.raises(RunError, match="two runs or more"):
        commands.ensemble.ensemble(["runs/one"])
    with pytest.raises(RunError, match="given twice"):
        commands.ensemble.ensemble(["runs/one", "runs/../runs/one"])
    with pytest.raises(RunError, match="holds a run"):
        commands.ensemble.ensemble(["runs/one", "runs/other"], workdir="runs/one")
    other = RunFolder("runs/elsewhere")
    other.path.mkdir()
    for name in ("test.json", "predictions.npz"):
        (other.path / name).write_bytes((Path("runs/one") / name).read_bytes())
    report = RunFolder("runs/one").data
    report["splits"]["validation"]["fingerprint"] = "another"
    other.write_json("data.json", report)
    with pytest.raises(RunError, match="different validation sets.*--weights=equal"):
        ensemble.vote([RunFolder("runs/one"), other], "fitted")
    assert ensemble.vote([RunFolder("runs/one"), other], "equal")[1] is None
    report["splits"]["test"]["fingerprint"] = "another"
    other.write_json("data.json", report)
    with pytest.raises(RunError, match="a test set other than"):
        ensemble.vote([RunFolder("runs/one"), other], "equal")
