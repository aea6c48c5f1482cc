"""configs/own_photos.py: its numbers for folders of every size, and the way from a folder of photos to predictions."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from limits import HANGS
from ml_collections import ConfigDict

from configs import own_photos
from imgcls_jax.data import photos
from imgcls_jax.data.transforms import parse
from imgcls_jax.errors import DataError
from imgcls_jax.pretrained import CATALOG, packages
from imgcls_jax.run.folder import RunFolder
from imgcls_jax.training import checks as options

ROOT = Path(__file__).parents[1]


def numbers(config: ConfigDict) -> tuple[int, ...]:
    """Size of the images, batch, epochs of both phases."""
    phases = config.adapt.phases
    return (
        config.data.image_size,
        config.train.batch_size,
        phases.phase1.train.epochs,
        phases.phase2.train.epochs,
    )


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (50, (224, 8, 40, 10)),
        (300, (224, 16, 33, 10)),
        (1_000, (224, 16, 10, 6)),
        (5_000, (192, 32, 8, 2)),
        (50_000, (160, 32, 8, 2)),
    ],
)
def test_numbers_fit_the_number_of_photos(count, expected, monkeypatch):
    monkeypatch.setattr(own_photos, "count", lambda folder: count)
    config = own_photos.get_config("photos")
    options.check(config)
    assert numbers(config) == expected
    assert (
        config.data.path == "photos" and config.name == "own_photos"
    )  # not named after the folder


def test_photos_are_counted_in_both_kinds_of_folders(tmp_path):
    for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg", "b/.hidden", ".hidden/1.jpg"):
        for split in ("plain", "split/train", "split/test", "other/Training", "other/Testing"):
            path = tmp_path / split / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    for folder in ("plain", "split", "other"):
        assert own_photos.count(str(tmp_path / folder)) == 3
    assert own_photos.count(str(tmp_path / "nowhere")) == 0
    assert numbers(own_photos.get_config(str(tmp_path / "nowhere"))) == numbers(
        own_photos.get_config()
    )


def test_what_was_chosen_is_said_in_a_line(tmp_path, capsys):
    own_photos.get_config()
    own_photos.get_config(str(tmp_path / "nowhere"))
    assert capsys.readouterr().err == ""
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.jpg").touch()
    own_photos.get_config(str(tmp_path))
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "own_photos: efficientnet_lite0 on 224x224 pixels, batches of 8, 40 epochs of a new "
        f"classifier and 10 of the last blocks, for 1 photos in {tmp_path}."
    )


def test_photos_are_cropped_and_not_squeezed():
    assert own_photos.get_config().data.fit == "crop"


def test_grayscale_photos_will_do():
    config = own_photos.get_config()
    images, keys = np.zeros((2, 64, 64, 1), np.uint8), jax.random.split(jax.random.key(0), 2)
    for transform in (config.data.transform, config.adapt.phases.phase2.data.transform):
        assert jax.eval_shape(parse(transform), images, keys).shape == (2, 64, 64, 3)


def launch(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "launch.py", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=HANGS
    )


def test_from_a_folder_of_photos_to_predictions(tmp_path):
    """Small images and few epochs; docs/transfer.md has the figures of a run as users have it."""
    try:
        packages.find(CATALOG["efficientnet_lite0"])
    except DataError as error:
        pytest.skip(str(error))
    folder = photos.write(tmp_path / "photos", {"train": 14, "test": 6})
    small = {
        "data.image_size": 64,
        "adapt.phases.phase1.train.epochs": 20,
        "adapt.phases.phase2.train.epochs": 1,
    }
    small |= {"adapt.feature_folder": "", "data.cache": ""}
    changes = [f"--config.{option}={value}" for option, value in small.items()]
    run = RunFolder(tmp_path / "run")
    done = launch(
        "--config", f"configs/own_photos.py:{folder}", "--workdir", str(run.path), *changes
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        "20 epochs of phase1 on features that are computed once, then 1 epoch of phase2. About"
        in done.stderr
    )
    assert "trained on images of 224x224 pixels" in done.stderr and "of 64x64 pixels" in done.stderr
    assert (
        run.environment["weights"]["efficientnet_lite0"]["sha256"]
        == CATALOG["efficientnet_lite0"].sha256
    )
    assert run.test["accuracy"] >= 0.8 and run.test["examples"] == 18
    assert (run.path / "report.html").exists()

    shown = launch("--mode", "predict", str(run.path), "--images", str(folder / "test" / "flower"))
    lines = [json.loads(line) for line in shown.stdout.splitlines()]
    assert len(lines) == 6 and sum(line["class"] == "flower" for line in lines) >= 4
