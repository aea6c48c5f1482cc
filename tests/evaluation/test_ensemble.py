"""Ensembles: rules on synthetic members, and an ensemble that a config trains."""

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
from imgcls_jax.evaluation.combination import (
    L2_STRENGTH,
    Combination,
    cross_fitted_stacking,
    fit_stacking,
    fit_weights,
    greedy_weights,
    weighted_mean,
)
from imgcls_jax.evaluation.predict import Predictor
from imgcls_jax.evaluation.scores import softmax
from imgcls_jax.reporting import verification
from imgcls_jax.run import publish
from imgcls_jax.run.folder import RunFolder


def members(count=3, examples=400, seed=0):
    """Probabilities of members of growing skill [M, N, K] and labels [N]."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(4, size=examples)
    skill = np.arange(1, count + 1)[:, None, None] * np.eye(4)[labels]
    noise = rng.normal(size=(count, examples, 4))
    return softmax(skill + noise), labels


def accuracy(probabilities, labels):
    return (probabilities.argmax(-1) == labels).mean()


def test_fitted_weights_maximize_the_likelihood():
    probabilities, labels = members()
    weights = fit_weights(probabilities, labels)
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()

    def loss(weights):
        return negative_log_likelihood(weighted_mean(probabilities, weights), labels)

    grid_losses = []
    for a, b in itertools.product(np.linspace(0, 1, 51), repeat=2):
        if a + b <= 1:
            grid_losses.append(loss(np.array([a, b, 1 - a - b])))
    assert loss(weights) <= min(grid_losses) + 1e-6
    assert weights.argmax() == 2


def test_greedy_selection_leaves_out_useless_members():
    probabilities, labels = members()
    useless = np.full_like(probabilities[:1], 0.25)
    weights = greedy_weights(np.concatenate([probabilities, useless]), labels)
    assert weights[-1] == 0
    assert weights.sum() == pytest.approx(1)
    voted = weighted_mean(probabilities, weights[:3])
    best_member = max(accuracy(member, labels) for member in probabilities)
    assert accuracy(voted, labels) >= best_member


def test_voting_by_confidence_by_hand():
    members = np.array([[[0.9, 0.1], [0.5, 0.5]], [[0.4, 0.6], [0.2, 0.8]]])
    voted = Combination(np.array([0.5, 0.5]), by_confidence=True)(members)
    first = (0.9 * np.array([0.9, 0.1]) + 0.6 * np.array([0.4, 0.6])) / 1.5
    second = (0.5 * np.array([0.5, 0.5]) + 0.8 * np.array([0.2, 0.8])) / 1.3
    np.testing.assert_allclose(voted, [first, second])


def test_stacking_minimizes_its_loss_and_learns_what_weights_cannot():
    probabilities, labels = members(examples=1000)
    # A member that takes every class for the next one.
    probabilities[0] = np.roll(probabilities[2], 1, axis=-1)

    def penalized_loss(layer):
        penalty = L2_STRENGTH * ((layer.kernel - np.eye(4) / 3) ** 2).sum() / 2
        return negative_log_likelihood(layer(probabilities), labels) + penalty

    layer = fit_stacking(probabilities, labels)
    stacked_loss = negative_log_likelihood(layer(probabilities), labels)
    voted = weighted_mean(probabilities, fit_weights(probabilities, labels))
    assert stacked_loss < negative_log_likelihood(voted, labels)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        neighbour = Combination(
            layer.weights,
            kernel=layer.kernel + 0.05 * rng.normal(size=layer.kernel.shape),
            bias=layer.bias + 0.05 * rng.normal(size=4),
        )
        assert penalized_loss(layer) < penalized_loss(neighbour)
    content = json.loads(json.dumps(layer.to_json()))
    loaded = Combination.from_json(layer.weights, content, num_classes=4)
    np.testing.assert_allclose(loaded(probabilities), layer(probabilities))


def test_stacking_finds_the_same_layer_from_published_predictions():
    """Members that agree and are sure leave the loss almost flat: a fit must not stop on the way."""
    rng = np.random.default_rng(0)
    labels = rng.integers(10, size=2000)
    common = 9 * np.eye(10)[labels] + 2 * rng.normal(size=(2000, 10))
    probabilities = softmax(common + 0.7 * rng.normal(size=(3, 2000, 10)))
    layer = fit_stacking(probabilities, labels)
    again = fit_stacking(
        np.stack([publish.half_precision(member) for member in probabilities]), labels
    )
    np.testing.assert_allclose(again.kernel, layer.kernel, atol=1e-4)
    np.testing.assert_allclose(again.bias, layer.bias, atol=1e-3)


def test_stacking_is_calibrated_on_images_that_its_layer_has_not_seen():
    """On its own images a layer of many numbers is far too good."""
    probabilities, labels = members(examples=60)
    cross_fitted = cross_fitted_stacking(probabilities, labels)
    np.testing.assert_allclose(cross_fitted.sum(-1), 1)
    own = fit_stacking(probabilities, labels)(probabilities)
    new, new_labels = members(examples=2000, seed=1)
    on_new = negative_log_likelihood(fit_stacking(probabilities, labels)(new), new_labels)
    assert negative_log_likelihood(own, labels) < 0.7 * on_new
    assert negative_log_likelihood(cross_fitted, labels) > 0.85 * on_new
    with_another = labels.copy()
    with_another[0] = (labels[0] + 1) % 4
    again = cross_fitted_stacking(probabilities, with_another)
    np.testing.assert_array_equal(again[0], cross_fitted[0])


def test_calibration_of_other_members_does_not_stay(voted, monkeypatch):
    commands.ensemble.ensemble(["runs/one", "runs/other"], workdir="runs/again")
    folder = RunFolder("runs/again").path
    assert {"calibration.json", "calibration.png"} <= {file.name for file in folder.iterdir()}
    monkeypatch.setattr(ensemble, "_voted_validation", lambda runs, combination: None)
    commands.ensemble.ensemble(["runs/one", "runs/other"], workdir="runs/again")
    assert not {"calibration.json", "calibration.png"} & {file.name for file in folder.iterdir()}


def tiny(name, seed):
    config = base.get_config()
    config.data.source = config.data.name = "digits"
    config.model.name = name
    config.train.update(epochs=2, batch_size=32, eval_batch_size=64)
    config.seed = seed
    return config


@pytest.fixture(scope="module")
def voted(tmp_path_factory):
    """The folder of an ensemble that trained its members, below the working folder."""
    folder = tmp_path_factory.mktemp("ensemble")
    member_configs = {"one": tiny("attention", 0), "other": tiny("attention", 1)}
    config = ConfigDict({"members": member_configs, "weights": "3,1"})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        studies.ensemble(config, Path("runs/both"))
        yield RunFolder("runs/both")


def test_the_ensemble_is_a_numpy_average(voted):
    runs = [RunFolder("runs/one"), RunFolder("runs/other")]
    images = data.load(runs[0].config.data).test.images
    votes = classifiers.load(voted.path)
    assert isinstance(votes, ensemble.EnsemblePredictor)
    assert isinstance(classifiers.load("runs/one"), Predictor)
    first, second = [Predictor(run).probabilities(images) for run in runs]
    average = 0.75 * first + 0.25 * second
    np.testing.assert_allclose(votes.probabilities(images), average, atol=1e-6)
    np.testing.assert_allclose(voted.predictions[0], average, atol=1e-6)
    summary = voted.read_json("ensemble.json")
    labels = runs[0].predictions[1]
    first_class, second_class = [run.predictions[0].argmax(-1) for run in runs]
    assert summary["test"]["accuracy"] == pytest.approx(accuracy(average, labels))
    assert [member["weight"] for member in summary["members"]] == [0.75, 0.25]
    disagreement = (first_class != second_class).mean()
    assert summary["disagreement"][0][1] == pytest.approx(disagreement)
    oracle = ((first_class == labels) | (second_class == labels)).mean()
    assert summary["oracle"] == pytest.approx(oracle)


def test_its_page_and_table_name_the_members(voted):
    page = (voted.path / "report.html").read_text()
    table = (voted.path / "ensemble.md").read_text()
    test = voted.read_json("ensemble.json")["test"]
    for text in (page, table):
        assert "1 one" in text
        assert "2 other" in text
        assert f"{100 * test['accuracy']:.2f}" in text
        assert "Between the ensemble and one" in text
    assert "Where the members disagree" in page
    assert "Calibration" in page


def test_it_is_published(voted):
    commands.publish.publish(["runs/both"])
    published = {path.name for path in Path("results/both").iterdir()}
    assert published - {".lock"} == {
        "ensemble.json",
        "ensemble.md",
        "ensemble.png",
        "predictions.npz",
        "calibration.json",
    }


def test_it_is_compared_with_its_members(voted):
    commands.compare.compare(["runs/o*", "runs/both"], workdir="runs/table")
    table = (Path("runs/table") / "table.md").read_text()
    accuracy = f"{100 * voted.read_json('ensemble.json')['test']['accuracy']:.2f}"
    assert f"| both | 1 | {accuracy} |" in table
    assert "- Between one and both " in table


def test_a_comparison_is_published_and_verified_from_its_runs_and_ensembles(voted):
    with pytest.raises(RunError, match=r"^runs holds runs\. Give the comparison another --workdir"):
        commands.compare.compare(["runs/one"], workdir="runs")
    commands.compare.compare(["runs/o*", "runs/both"], workdir="runs/table")
    systems = {"one": ["../one", "../other"], "both": ["../both"]}  # two seeds share a row
    assert RunFolder("runs/table").read_json("comparison.json") == {"systems": systems}
    commands.publish.publish(["runs/one", "runs/other", "runs/both", "runs/table"])
    kept = {path.name for path in Path("results/table").iterdir()} - {".lock"}
    assert kept == set(publish.OF_COMPARISONS)
    text = verification.verify(Path("results"), Path("README.md"))
    assert text.startswith("2 runs, 1 ensembles, 1 tables: ")
    table = Path("results/table/table.csv")
    rows = table.read_text()
    accuracy = str(100 * voted.read_json("ensemble.json")["test"]["accuracy"])
    assert rows.count(f"both,1,{accuracy}") == 1
    table.write_text(rows.replace(f"both,1,{accuracy}", "both,1,99.5"))
    with pytest.raises(RunError, match=r"table\.csv both accuracy: 99\.5 published"):
        verification.verify(Path("results"), Path("README.md"))
    shutil.rmtree("results/both")  # nor is its row verified
    verification.verify(Path("results"), Path("README.md"))


@pytest.mark.parametrize("rule", ["confidence", "stacked"])
def test_other_rules_are_compared_with_soft_voting_and_classify_images(voted, rule):
    members = ["runs/one", "runs/other"]
    commands.ensemble.ensemble(members, weights=rule, workdir=f"runs/{rule}")
    run = RunFolder(f"runs/{rule}")
    probabilities, labels = run.predictions
    soft_voting = np.mean([RunFolder(member).predictions[0] for member in members], axis=0)
    soft_correct = soft_voting.argmax(-1) == labels
    correct = probabilities.argmax(-1) == labels
    summary = run.read_json("ensemble.json")["soft_voting"]
    assert summary["accuracy"] == pytest.approx(soft_correct.mean())
    assert summary["against"] == paired.compare(correct, soft_correct)
    images = data.load(RunFolder("runs/one").config.data).test.images[:50]
    of_images = classifiers.load(run.path).probabilities(images)
    np.testing.assert_allclose(of_images, probabilities[:50], atol=1e-4)
    table = (run.path / "ensemble.md").read_text()
    assert "| soft voting of the same members | equal |" in table
    better_or_worse = "Between the ensemble and soft voting"
    no_difference = "and soft voting of the same members no"
    assert better_or_worse in table or no_difference in table


def test_its_members_are_found_from_anywhere(voted, tmp_path, monkeypatch):
    """Paths of members are relative to the ensemble; another run under the name is refused."""
    home = Path.cwd()
    images = np.zeros((3, 8, 8, 1), np.uint8)
    expected = classifiers.load("runs/both").probabilities(images)
    members = voted.read_json("ensemble.json")["members"]
    assert [member["run"] for member in members] == ["../one", "../other"]
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "runs").mkdir(parents=True)
    monkeypatch.chdir(elsewhere)
    for name in ("one", "other"):  # taken by a path from the working directory, these would vote
        shutil.copytree(home / "runs/one", elsewhere / "runs" / name)
    from_elsewhere = classifiers.load(home / "runs/both").probabilities(images)
    np.testing.assert_array_equal(from_elsewhere, expected)
    shutil.copytree(home / "runs", tmp_path / "moved")
    moved = classifiers.load(tmp_path / "moved/both").probabilities(images)
    np.testing.assert_array_equal(moved, expected)
    shutil.rmtree(tmp_path / "moved/other")
    missing = "moved/other, a member of .*moved/both, is missing.*imgcls_jax ensemble"
    with pytest.raises(RunError, match=missing):
        classifiers.load(tmp_path / "moved/both")
    shutil.copytree(tmp_path / "moved/one", tmp_path / "moved/other")
    another = "moved/other is another run than the member of .*moved/both that voted"
    with pytest.raises(RunError, match=another):
        classifiers.load(tmp_path / "moved/both")


def test_an_ensemble_of_an_older_version_says_what_to_do(voted, tmp_path):
    summary = voted.read_json("ensemble.json")
    for member in summary["members"]:
        del member["fingerprint"]
    RunFolder(tmp_path).write_json("ensemble.json", summary)
    message = "older version, which did not keep where its members are: make .* again"
    with pytest.raises(RunError, match=message):
        classifiers.load(tmp_path)


class Untrained:
    """Stands for a predictor of two classes, or of three for the run "other"."""

    reader = None
    batch_size = 1
    shape = (8, 8, 1)
    others = "01"

    def __init__(self, run, *, batch_size=None):
        self.class_names = tuple(self.others if run.name == "other" else "01")


@pytest.mark.parametrize("kernel", [[[[1.0]]], [[[1.0, 2.0], [3.0]]] * 2, [[[1.0] * 3] * 3] * 2])
def test_a_layer_of_other_members_or_classes_is_refused(kernel, voted, monkeypatch):
    monkeypatch.setattr(ensemble, "Predictor", Untrained)
    folder = Path("runs/odd")
    folder.mkdir(exist_ok=True)
    summary = voted.read_json("ensemble.json")
    summary["stacking"] = {"kernel": kernel, "bias": [0.0] * len(kernel[0])}
    RunFolder(folder).write_json("ensemble.json", summary)
    with pytest.raises(RunError, match="odd/ensemble.json is damaged .*: make the ensemble again"):
        classifiers.load(folder)


def test_members_of_other_classes_than_each_other_are_refused(voted, monkeypatch):
    monkeypatch.setattr(ensemble, "Predictor", Untrained)
    monkeypatch.setattr(Untrained, "others", "012")
    with pytest.raises(RunError, match="other has other classes or images than .*one"):
        classifiers.load(voted.path)


def test_a_layer_of_too_many_numbers_is_refused():
    ensemble._check_stackable(2, num_classes=1000)
    with pytest.raises(ConfigError, match="12,500,000 numbers for 2 members of 2,500 classes"):
        ensemble._check_stackable(2, num_classes=2500)


@pytest.mark.parametrize("rule", ["equal", "fitted", "greedy"])
def test_every_rule_gives_shares(voted, rule):
    weights = ensemble.member_weights(rule, [RunFolder("runs/one"), RunFolder("runs/other")])
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()


@pytest.mark.parametrize("rule", ["best", "1", "1,2,3", "0,0", "-1,2", "nan,1"])
def test_bad_weights_are_refused(voted, rule):
    message = "greedy, confidence, stacked, or a number of 0 or more for each of the 2 members"
    with pytest.raises(ConfigError, match=message):
        commands.ensemble.ensemble(["runs/one", "runs/other"], weights=rule, workdir="runs/refused")
    assert not Path("runs/refused").exists()


def test_runs_that_cannot_vote_together_are_refused(voted):
    with pytest.raises(RunError, match="two runs or more"):
        commands.ensemble.ensemble(["runs/one"])
    with pytest.raises(RunError, match="given twice"):
        commands.ensemble.ensemble(["runs/one", "runs/../runs/one"])
    with pytest.raises(RunError, match="holds a run"):
        commands.ensemble.ensemble(["runs/one", "runs/other"], workdir="runs/one")
    run = RunFolder("runs/one")
    stranger = RunFolder("runs/elsewhere")
    stranger.path.mkdir()
    for name in ("test.json", "predictions.npz"):
        shutil.copy(run.path / name, stranger.path / name)
    report = run.data
    report["splits"]["validation"]["fingerprint"] = "another"
    stranger.write_json("data.json", report)
    with pytest.raises(RunError, match="different validation sets.*--weights=equal"):
        ensemble.vote([run, stranger], "fitted")
    _, validation, _ = ensemble.vote([run, stranger], "equal")
    assert validation is None
    report["splits"]["test"]["fingerprint"] = "another"
    stranger.write_json("data.json", report)
    with pytest.raises(RunError, match="a test set other than"):
        ensemble.vote([run, stranger], "equal")
