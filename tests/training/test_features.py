"""Features kept on disk: found again where nothing they depend on has changed, bounded, never believed when damaged."""

import logging
import os

import numpy as np
import pytest
from residual import DATA, noise, small_config, train

from imgcls_jax.data import Splits
from imgcls_jax.training import features


@pytest.fixture
def computed(monkeypatch):
    """The numbers of images whose features were computed, in order."""
    seen, compute = [], features._compute
    monkeypatch.setattr(
        features,
        "_compute",
        lambda *args, **options: seen.append(len(args[2])) or compute(*args, **options),
    )
    return seen


def cached_config(folder, **options):
    return small_config(
        **{
            "adapt.trainable": ("^classifier/",),
            "adapt.feature_bytes": 10**6,
            "adapt.feature_folder": str(folder),
            "train.epochs": 2,
            **options,
        }
    )


def test_other_seeds_and_rates_find_them(tmp_path, computed, caplog):
    source = train(small_config(**{"train.epochs": 1}), tmp_path / "source")
    options = {"model.pretrained": str(source.path)}
    with caplog.at_level(logging.INFO):
        first = train(cached_config(tmp_path / "kept", **options), tmp_path / "first")
    assert "they are computed once" in caplog.text and "times as long" in caplog.text
    assert "The features of 48 images took" in caplog.text and "read from" not in caplog.text
    others = {"seed": 1, "optimizer.learning_rate": 0.01}
    second = train(cached_config(tmp_path / "kept", **options, **others), tmp_path / "second")
    assert (
        computed == [48, 12] and first.history[0]["train_loss"] != second.history[0]["train_loss"]
    )
    caplog.clear()
    with caplog.at_level(logging.INFO):
        again = train(cached_config(tmp_path / "kept", **options), tmp_path / "again")
    assert computed == [48, 12]
    assert "The features of 12 images are read from" in caplog.text
    assert [line["train_loss"] for line in again.history] == [
        line["train_loss"] for line in first.history
    ]


def test_those_of_another_user_are_read(tmp_path, computed, monkeypatch, caplog):
    def refuse(path):
        raise PermissionError("of another user")

    first = train(cached_config(tmp_path / "kept"), tmp_path / "first")
    monkeypatch.setattr(features.os, "utime", refuse)
    second = train(cached_config(tmp_path / "kept"), tmp_path / "second")
    assert computed == [48, 12] and "damaged" not in caplog.text
    assert second.history[0]["train_loss"] == first.history[0]["train_loss"]


@pytest.mark.parametrize("change", ["weights", "transform", "images", "model"])
def test_what_they_depend_on_makes_others(tmp_path, computed, change):
    train(cached_config(tmp_path / "kept"), tmp_path / "first")
    changes = {
        "weights": {"seed": 1},  # of the backbone too, since nothing is pretrained
        "transform": {"data.transform": "normalize(cifar10)"},
        "images": {},
        "model": {"model.se": "stem"},
    }
    if change == "images":
        other = Splits(train=noise(48, 7), validation=DATA.validation, test=DATA.test, report={})
        train(cached_config(tmp_path / "kept"), tmp_path / "second", data=other)
        assert computed == [48, 12, 48]  # the validation images are the same
    else:
        train(cached_config(tmp_path / "kept", **changes[change]), tmp_path / "second")
        assert computed == [48, 12, 48, 12]


def test_what_was_used_longest_ago_goes_first(tmp_path):
    folder, vectors = tmp_path / "kept", np.zeros((100, 25), np.float32)  # 10 kB
    folder.mkdir()
    (folder / "results.npz").write_bytes(b"somebody else's")
    paths = [folder / f"cnn-{number:032}.npz" for number in range(5)]
    for number, path in enumerate(paths):
        features._write(path, vectors, 1.0, max_bytes=25_000)
        os.utime(path, (number, number))
        if number == 1:
            os.utime(paths[0])  # used again
    left = [folder / "results.npz", paths[0], paths[4]]
    assert sorted(folder.iterdir()) == sorted(left)
    features._write(folder / "large.npz", vectors, 1.0, max_bytes=9_999)
    assert sorted(folder.iterdir()) == sorted(left)


def test_damaged_ones_are_computed_anew(tmp_path, computed, caplog):
    train(cached_config(tmp_path / "kept"), tmp_path / "first")
    for file in (tmp_path / "kept").iterdir():
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    train(cached_config(tmp_path / "kept"), tmp_path / "second")
    assert computed == [48, 12, 48, 12] and caplog.text.count("are damaged") == 2


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path, caplog):
    (tmp_path / "kept").write_text("a file")
    train(cached_config(tmp_path / "kept"), tmp_path / "run")
    assert "cannot be kept" in caplog.text and "--config.adapt.feature_folder" in caplog.text
