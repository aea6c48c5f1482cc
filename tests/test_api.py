"""The Python API on the quick start's digits: two epochs, then all that is done with a run."""

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import imgcls_jax
from imgcls_jax.__main__ import parse
from imgcls_jax.commands import runs
from imgcls_jax.errors import ConfigError, DataError, RunError
from tests.test_command_line import end_without_a_reader

ROOT = Path(__file__).parents[1]
QUICKSTART = ROOT / "configs" / "quickstart.py"
SMALL = {"train.epochs": 2, "model.filters": (8, 16, 16)}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    config = imgcls_jax.load_config(QUICKSTART, seed=1, **SMALL)
    return imgcls_jax.train(config, tmp_path_factory.mktemp("runs") / "quickstart")


def digits(run) -> tuple[np.ndarray, np.ndarray]:
    """The run's test set."""
    from imgcls_jax import data

    test = data.load(run.config.data).test
    return np.asarray(test.images[:]), test.labels


def test_importing_the_package_loads_nothing_that_takes_long():
    code = (
        "import sys, imgcls_jax; assert 'train' in dir(imgcls_jax); "
        "sys.exit(bool({'jax', 'flax', 'numpy', 'absl'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'fit'"):
        imgcls_jax.fit  # noqa: B018
    assert all(getattr(imgcls_jax, name).__doc__ for name in imgcls_jax.__all__)


def test_a_config_is_loaded_with_changes_by_path_or_nested():
    config = imgcls_jax.load_config(QUICKSTART, seed=3, optimizer={"learning_rate": 0.01})
    assert (config.seed, config.optimizer.learning_rate) == (3, 0.01)
    assert (config.name, config.train.epochs) == ("quickstart", 20)
    config = imgcls_jax.load_config(
        str(QUICKSTART), **{"name": "mine", "model.name": "lstm", "model.hidden": 9}
    )
    assert (config.name, config.model.name, config.model.hidden) == ("mine", "lstm", 9)
    assert "filters" not in config.model


def test_the_argument_of_a_config_file_stands_behind_a_colon():
    study = imgcls_jax.load_config(f"{ROOT}/configs/studies/grid.py:quickstart", seeds=(0, 4))
    assert (study.name, study.seeds) == ("quickstart_grid", (0, 4))
    with pytest.raises(ConfigError, match="a study or an ensemble"):
        imgcls_jax.train(study, "runs/none")


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"optimizer.learning_rat": 0.1}, "Did you mean 'optimizer.learning_rate'"),
        ({"train": {"epochs": "many"}}, "wrong type"),
        ({"model": {"name": "lstm", "filters": (8,)}}, "has no option 'filters'"),
    ],
)
def test_changes_that_cannot_be_are_refused(changes, says):
    with pytest.raises(ConfigError, match=says):
        imgcls_jax.load_config(QUICKSTART, **changes)


def test_a_missing_config_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no config in .*nothing.py"):
        imgcls_jax.load_config(tmp_path / "nothing.py")


def test_a_run_is_trained_once_and_can_be_loaded(run, tmp_path):
    assert run.finished and len(run.history) == 2 and run.test["accuracy"] > 0.5
    written = (run.path / "metrics.jsonl").stat().st_mtime_ns
    again = imgcls_jax.train(run.config, run.path)
    assert again.test == run.test and (run.path / "metrics.jsonl").stat().st_mtime_ns == written
    loaded = imgcls_jax.load_run(run.path)
    assert loaded.config.train.epochs == 2 and imgcls_jax.load_run(loaded) is loaded
    with pytest.raises(RunError, match="config.json is missing"):
        imgcls_jax.load_run(tmp_path)


def test_a_run_without_a_name_needs_a_folder():
    config = imgcls_jax.load_config(QUICKSTART)
    config.name = None
    with pytest.raises(ConfigError, match="no name"):
        imgcls_jax.train(config)


def test_launch_takes_the_run_for_its_own(run):
    """The API names a run after its config's file; launch.py names the folder alone."""
    changes = [f"--config.{option}={value}" for option, value in SMALL.items()]
    command = [sys.executable, "launch.py", f"--config={QUICKSTART}", f"--workdir={run.path}"]
    launched = subprocess.run(
        [*command, "--config.seed=1", *changes], cwd=ROOT, capture_output=True, text=True
    )
    assert launched.returncode == 0 and "is finished" in launched.stderr, launched.stderr


def test_evaluating_gives_the_scores_of_the_run(run):
    scores = imgcls_jax.evaluate(run)
    assert scores["accuracy"] == run.test["accuracy"]
    assert scores["loss"] == pytest.approx(run.test["loss"])
    images, labels = digits(run)
    assert imgcls_jax.evaluate(str(run.path), images, labels) == scores
    half = imgcls_jax.evaluate(run, images[:20], labels[:20])
    assert half["examples"] == 20 and np.sum(half["confusion"]) == 20


def test_images_and_labels_that_do_not_fit_are_refused(run):
    images, labels = digits(run)
    for arguments, says in (
        ((images,), "both images and labels"),
        ((images, labels[:3]), "one integer for each image"),
        ((images[:0], labels[:0]), "at least one image"),
        ((images, labels + 1), "give 0 to 9"),
        ((images[:, :4], labels), r"uint8 \[N, 8, 8, 1\]"),
        ((images / 255, labels), "float64"),
    ):
        with pytest.raises(DataError, match=says):
            imgcls_jax.evaluate(run, *arguments)
    with pytest.raises(DataError, match=r"uint8 \[N, 8, 8, 1\]"):
        imgcls_jax.predict(run, images[0])


def test_predicting_arrays_and_files(run, tmp_path):
    images, labels = digits(run)
    predictions = list(imgcls_jax.predict(run, images))
    probabilities = np.stack([prediction.probabilities for prediction in predictions])
    np.testing.assert_allclose(probabilities, run.predictions[0], atol=1e-5)
    first = predictions[0]
    assert first.class_name == str(probabilities[0].argmax()) and not first.path
    assert first.confidence == probabilities[0].max()

    Image.fromarray(images[0, ..., 0]).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no image")
    read, broken = imgcls_jax.predict(str(run.path), tmp_path.as_posix())
    assert read.class_name == first.class_name and os.path.basename(read.path) == "a.png"
    np.testing.assert_array_equal(read.image, images[0])
    assert "cannot be read" in broken.error and not broken.class_name and broken.confidence == 0
    (named,) = imgcls_jax.predict(run.path, [tmp_path / "a.png"])
    assert named.confidence == pytest.approx(first.confidence, abs=1e-5)
    (alone,) = imgcls_jax.predict(run.path, tmp_path / "a.png")
    assert alone.confidence == named.confidence
    with pytest.raises(DataError, match="The images are no array: give one, uint8"):
        imgcls_jax.predict(run.path, [images[0]])
    with pytest.raises(RunError, match="missing"):
        imgcls_jax.predict("nowhere", [tmp_path])


def test_labels_of_a_file_with_names_of_its_own_are_translated(run, tmp_path, caplog):
    images, labels = digits(run)
    names = [*"9876543210", "other"]
    own = np.append(9 - labels, 10)
    all_images = np.concatenate([images, images[:1]])
    arrays = {"test_images": all_images, "test_labels": own, "val_images": images}
    np.savez(tmp_path / "named.npz", class_names=names, **arrays)
    *known, other = imgcls_jax.predict(run, tmp_path / "named.npz")
    assert [prediction.label for prediction in known] == labels.tolist()
    assert other.label == -1
    assert "Not used of" in caplog.text and "val_images" in caplog.text


def pixels_csv(path, images):
    """Writes images without labels as Kaggle's test files have them."""
    rows = images.reshape(len(images), -1)
    lines = [",".join(f"pixel{column}" for column in range(rows.shape[1]))]
    for row in rows:
        lines.append(",".join(map(str, row)))
    path.write_text("\n".join(lines))


def command(*arguments):
    """Runs a command line in this process; errors are raised."""
    options = parse(arguments)
    options.run(options)


def test_a_csv_file_without_labels_becomes_a_submission(run, tmp_path, capsys, caplog):
    caplog.set_level(logging.INFO, "imgcls_jax")
    images, _ = digits(run)
    pixels_csv(tmp_path / "test.csv", images)
    options = ["--format", "csv", "--columns", "ImageId,Label"]
    command("predict", str(run.path), str(tmp_path / "test.csv"), *options)
    header, *lines = capsys.readouterr().out.splitlines()
    assert header == "ImageId,Label"
    predicted = run.predictions[0].argmax(1)
    assert lines == [f"{number},{label}" for number, label in enumerate(predicted, 1)]
    assert f"{len(images)} images classified" in caplog.text
    assert "the run knows" not in caplog.text


def test_predictions_that_nobody_reads_end_the_command(run, tmp_path):
    images, _ = digits(run)
    np.savez(tmp_path / "two.npz", images=images[:2])
    command = ("-m", "imgcls_jax", "predict", str(run.path), str(tmp_path / "two.npz"))
    printed = end_without_a_reader(*command)
    assert "Traceback" not in printed and "BrokenPipe" not in printed


def test_rows_of_files_and_images_go_together(run, tmp_path, capsys):
    images, labels = digits(run)
    np.savez(tmp_path / "two.npz", images=images[:2], labels=labels[:2])
    np.savez(tmp_path / "large.npz", images=np.zeros((1, 9, 9, 1), np.uint8))
    Image.fromarray(images[2, ..., 0]).save(tmp_path / "c.png")
    files = [str(tmp_path / name) for name in ("two.npz", "large.npz", "c.png")]
    first, second, broken, third = imgcls_jax.predict(run, files)
    assert [first.row, second.row, broken.row, third.row] == [1, 2, 0, 0]
    assert first.path == second.path == files[0] and first.label == labels[0]
    assert "holds images of 9x9x1" in broken.error and third.probabilities is not None
    with pytest.raises(DataError, match="1 of 4 images could not be read"):
        command("predict", str(run.path), *files)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("row") for line in lines] == [1, 2, None, None]
    with pytest.raises(DataError):
        command("predict", str(run.path), *files, "--format=csv", "--columns=n=number,row")
    assert capsys.readouterr().out.splitlines() == ["n,row", "1,1", "2,2", "3,", "4,"]


def test_predicting_images_that_were_trained_on_is_said(run, tmp_path, capsys, caplog):
    caplog.set_level(logging.INFO, "imgcls_jax")
    splits = runs.data_of(run)
    images = np.concatenate(
        [splits.train.images[:3], splits.validation.images[:2], splits.test.images[:4]]
    )
    np.savez(tmp_path / "mixed.npz", images=images)
    command("predict", str(run.path), str(tmp_path / "mixed.npz"))
    expected = (
        "Of 9 images, the run knows 5: 3 from its training set and 2 from its validation set."
    )
    assert expected in caplog.text
    capsys.readouterr()
    damaged = tmp_path / "damaged"
    shutil.copytree(run.path, damaged)
    (damaged / "image_digests.npz").write_text("no archive")
    command("predict", str(damaged), str(tmp_path / "mixed.npz"))
    assert "image_digests.npz is damaged" in caplog.text
    assert len(capsys.readouterr().out.splitlines()) == 9


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--columns=ImageId"], "it needs --format csv"),
        (["--format=csv", "--columns=ImageId,Name"], "'Name' names no field"),
        (["--format=csv", "--columns=id,Label,id=row"], "two columns are called 'id'"),
    ],
)
def test_columns_that_cannot_be_are_refused(options, says, run, capsys):
    with pytest.raises(SystemExit):
        command("predict", str(run.path), "a.png", *options)
    assert says in capsys.readouterr().err
