"""Published figures follow from the predictions, and one that does not is named."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from configs import base
from imgcls_jax import commands
from imgcls_jax.errors import RunError
from imgcls_jax.evaluation import calibration, predict
from imgcls_jax.reporting import verification
from imgcls_jax.run.folder import RunFolder
from imgcls_jax.run.publish import half_precision

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()


@pytest.fixture
def published(tmp_path, make_run, make_dataset):
    """Two finished runs of a study, and its table; their data are a file that is not here."""
    from imgcls_jax.reporting import compare
    from imgcls_jax.reporting.compare_rows import Group

    test = make_dataset(40)
    away = base.get_config().data.to_dict()
    away |= {"source": "npz", "name": "away", "path": str(tmp_path / "away.npz")}
    runs = []
    for seed in (0, 1):
        name = f"study/a-seed{seed}"
        run = make_run(test, name=name, seed=seed, changes={"data": away})
        runs.append(run)
        predict.write_predictions(run, run.predictions, run.predictions)
        figures = calibration.metrics(*run.predictions)
        change(
            run.path / "test.json",
            best_step=300,
            train_accuracy=run.history[2]["train_accuracy"],
            validation_accuracy=figures["accuracy"],
            validation_loss=figures["nll"],
        )
        calibration.write(run)
    compare.write([Group("a", {}, runs)], tmp_path / "study", title="A study")
    return tmp_path


def change(file: Path, **figures):
    file.write_text(json.dumps(json.loads(file.read_text()) | figures))


def round_predictions(run: RunFolder):
    """As `publish` does."""
    rounded = []
    for predictions in (run.predictions, run.validation_predictions):
        if predictions is not None:
            probabilities, labels = predictions
            predictions = half_precision(probabilities), labels
        rounded.append(predictions)
    run.write_predictions(*rounded)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_what_was_published_holds(published, tmp_path, precision):
    if precision == "float16":
        for seed in (0, 1):
            round_predictions(RunFolder(published / "study" / f"a-seed{seed}"))
    text = verification.verify(published, tmp_path / "README.md")
    assert text.startswith("2 runs, 0 ensembles, 1 tables: ") and "none differs" in text
    assert text.endswith(
        "The labels of 0 runs are those of their data; away, of 2 runs, cannot be read here."
    )


@pytest.mark.parametrize("split", ["test", "validation"])
def test_a_label_that_half_precision_loses_may_cost_more(published, tmp_path, split):
    """The loss was computed from logits, the same again from a probability that is stored as 0."""
    run = RunFolder(published / "study" / "a-seed0")
    predictions = {"test": run.predictions, "validation": run.validation_predictions}
    probabilities, labels = (np.concatenate([part] * 10) for part in predictions[split])
    predicted = probabilities.argmax(axis=-1)
    wrong = np.flatnonzero(predicted != labels)[0]
    probabilities[wrong] = 0
    probabilities[wrong, predicted[wrong]] = 1
    predictions[split] = probabilities, labels
    run.write_predictions(predictions["test"], predictions["validation"])
    loss = calibration.negative_log_likelihood(probabilities, labels)
    key = "loss" if split == "test" else "validation_loss"
    for published_loss, holds in ((loss + 20 / len(labels), True), (loss + 2, False)):
        change(run.path / "test.json", **{key: published_loss})
        (check,) = (
            check
            for check in verification.of_run(run)
            if check.where == f"{run.path}/test.json {key}"
        )
        assert check.holds == holds


@pytest.mark.parametrize("key", ["accuracy", "loss", "validation_accuracy", "best_epoch"])
def test_a_figure_that_differs_is_named(published, key):
    file = published / "study" / "a-seed1" / "test.json"
    figure = json.loads(file.read_text())[key]
    change(file, **{key: figure + 1})
    with pytest.raises(RunError, match=rf"a-seed1/test\.json {key}: {figure + 1} published, "):
        verification.verify(published, Path("README.md"))


def test_a_table_and_a_calibration_that_differ_are_named(published):
    folder = published / "study"
    change(folder / "a-seed0" / "calibration.json", temperature=9.5)
    table = folder / "table.csv"
    table.write_text(table.read_text().replace("\na,2,", "\na,3,"))
    with pytest.raises(RunError) as caught:
        verification.verify(published, Path("README.md"))
    assert "2 of " in str(caught.value)
    assert "calibration.json temperature: 9.5 published" in str(caught.value)
    assert "table.csv a seeds: 3.0 published, 2.0 now" in str(caught.value)


def test_predictions_of_other_labels_are_named(published):
    """Predictions alone would not show labels of another data set."""
    run = RunFolder(published / "study" / "a-seed0")
    probabilities, labels = run.predictions
    run.write_predictions((probabilities, np.roll(labels, 1)), run.validation_predictions)
    with pytest.raises(RunError, match=r"a-seed0/test\.json"):
        verification.verify(published, Path("README.md"))


def test_an_ensemble_is_computed_from_its_members(published):
    from imgcls_jax.evaluation import ensemble

    members = [RunFolder(published / "study" / f"a-seed{seed}") for seed in (0, 1)]
    voted, validation, summary = ensemble.vote(members, "equal")
    for member, run in zip(summary["members"], members, strict=True):
        member["run"] = f"runs/study/{run.name}"
    folder = RunFolder(published / "together")
    folder.path.mkdir()
    predict.write_predictions(folder, (voted, members[0].predictions[1]), validation)
    folder.write_json("ensemble.json", summary)
    for run in (*members, folder):
        round_predictions(run)
    assert "1 ensembles" in verification.verify(published, Path("README.md"))
    folder.write_json("ensemble.json", summary | {"oracle": summary["oracle"] + 0.01})
    with pytest.raises(RunError, match=r"together/ensemble\.json oracle"):
        verification.verify(published, Path("README.md"))
    folder.write_json("ensemble.json", summary)
    sharpened = voted**1.1 / (voted**1.1).sum(axis=-1, keepdims=True)
    folder.write_predictions((sharpened, members[0].predictions[1]), validation)
    with pytest.raises(RunError, match=r"its predictions from its members'"):
        verification.verify(published, Path("README.md"))


def test_a_folder_without_runs_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(RunError, match=f"^{tmp_path} holds no published run"):
        commands.reproduce.reproduce("~", verify=True)


@pytest.mark.skipif(
    not (DATA / "cifar10").exists() or not (DATA / "mnist").exists(), reason="the data are not here"
)
def test_every_published_figure_follows_from_predictions_and_labels(monkeypatch):
    monkeypatch.chdir(ROOT)
    text = verification.verify(Path("results"), Path("README.md"))
    runs = len(list(Path("results").rglob("test.json")))
    assert text.startswith(f"{runs} runs")
    assert f"The labels of {runs} runs are those of their data." in text
