"""Runs with JSON that no run writes: an index leaves them out, other commands refuse them."""

import argparse
import io
import json
import math
import os
import re
import shutil
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from imgcls_jax import api, commands
from imgcls_jax.errors import RunError
from imgcls_jax.evaluation import predict as predict_module
from imgcls_jax.reporting import index
from imgcls_jax.run import schema
from imgcls_jax.run.folder import RunFolder
from tests.badinput import test_config
from tests.badinput.test_commands import finished, run  # noqa: F401  fixtures

ROOT = Path(__file__).parents[2]


def chunk(kind: bytes, content: bytes) -> bytes:
    length = struct.pack(">I", len(content))
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return length + kind + content + checksum


def png(width: int, height: int, *more: bytes) -> bytes:
    """A PNG whose header gives this size, with next to no content."""
    header = chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + data + chunk(b"IEND", b"")


def small_png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (300, 200), "orange").save(buffer, "png")
    return buffer.getvalue()


# By file: changes that make it invalid.
ODD = {
    "test.json": {
        "endless time": {"train_seconds": float("inf")},
        "no time": {"train_seconds": float("nan")},
        "large accuracy": {"accuracy": 10**400},
        "large loss": {"loss": 10**400},
        "large time": {"train_seconds": 10**400},
        "large parameters": {"parameters": 2**63},
        "parameters below nothing": {"parameters": -1},
        "a time below nothing": {"train_seconds": "1"},
        "odd, where nobody looks": {"more": {"and": [float("nan")]}},
        "surrogate, where nobody looks": {"more": "\ud800"},
        "surrogate as a name": {"\udcff": 1},
    },
    "config.json": {
        "surrogate model": {"model": {"name": "\ud800"}},
        "surrogate data": {"data": {"source": "digits", "name": "\udcff"}},
        "no model": {"model": {}},
        "a list as a model": {"model": {"name": ["<b>x</b>"]}},
        "no data": {"data": {}},
        "dicts as data": {"data": {"source": {"a": 1}, "name": {"b": "<i>"}}},
        "a text as data": {"data": "digits"},
        "a name with a dot": {"a.b": 1},
        "a seed that is none": {"seed": True},
        "a large seed": {"seed": 2**64},
        "much nested": {"more": json.loads("[" * 50 + "]" * 50)},
    },
    "environment.json": {
        "a list as a device": {"device": ["a"]},
        "surrogate device": {"device": "\ud800"},
        "long device": {"device": "a" * 200_000},
    },
}


@pytest.fixture
def runs(finished, tmp_path):  # noqa: F811
    """A good run, and a copy of it to be changed."""
    for name in ("good", "odd"):
        shutil.copytree(finished / "whole", tmp_path / name)
        (tmp_path / name / "dashboard.png").write_bytes(small_png())
    return tmp_path


@pytest.mark.parametrize("name", ODD)
def test_an_index_leaves_odd_runs_out_with_a_line(name, runs, caplog):
    before = json.loads((runs / "odd" / name).read_text())
    for what, change in ODD[name].items():
        (runs / "odd" / name).write_text(json.dumps(before | change))
        caplog.clear()
        text = index.write(runs).read_text()
        assert "good/report.html" in text and "odd/report.html" not in text, what
        (line,) = [record.getMessage() for record in caplog.records]
        assert re.search(rf"Left out: .*odd/{name} is", line), line
        assert len(line.splitlines()) == 1 and len(line) < 800, line


PICTURES = {
    "bomb": png(20_000, 20_000),
    "large": png(60_000, 1_000),
    "chunk": small_png().replace(b"IDAT", b"I\x01AT"),
    "text": png(10, 10, chunk(b"zTXt", b"a\0\0" + zlib.compress(b"x" * 20_000_000))),
    "cut": small_png()[:60],
    "empty": b"",
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 28 28\nshowpage\n",
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", PICTURES)
def test_an_index_leaves_an_odd_picture_out_with_a_line(name, runs, caplog):
    (runs / "odd" / "dashboard.png").write_bytes(PICTURES[name])
    text = index.write(runs).read_text()
    assert "odd/report.html" in text and text.count("<img") == 1
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("Without its picture: ") and "odd/dashboard.png" in line
    assert len(line.splitlines()) == 1


@pytest.mark.parametrize("name", ["test.json", "config.json", "dashboard.png"])
def test_an_index_does_not_wait_for_a_pipe(name, runs, caplog):
    (runs / "odd" / name).unlink()
    os.mkfifo(runs / "odd" / name)
    text = index.write(runs).read_text()
    assert "good/report.html" in text and "odd/report.html" not in text
    assert "is a pipe" in caplog.text


def test_facts_of_the_config_do_not_come_from_test_json(runs):
    test = json.loads((runs / "odd" / "test.json").read_text())
    others = dict.fromkeys(("seed", "study", "device", "model", "data", "name"), "elsewhere")
    (runs / "odd" / "test.json").write_text(json.dumps(test | others))
    assert "elsewhere" not in index.write(runs).read_text()


SHAPES = [
    [],
    [True] * 3,
    [8],
    [8, 8],
    [0, 8, 1],
    [-8, 8, 1],
    [100_000, 100_000, 3],
    [8.0, 8, 1],
    ["8", 8, 1],
    [8, 8, 1, 1],
]
DATA = {
    **{f"shape {shape}": {"splits": {"train": {"shape": shape}}} for shape in SHAPES},
    "no classes": {"class_names": []},
    "a class that is a number": {"class_names": [1, 2]},
    "a surrogate as a class": {"class_names": ["\ud800"]},
    "a class alone": {"class_names": ["a"]},
    "many classes": {"class_names": ["a"] * 100},
    "no mean": {"splits": {"train": {"pixel_mean": float("nan")}}},
    "no splits": {"splits": []},
}
OPTIONS = {
    "a large image": {"data": {"transform": "resize(10000)"}},
    "a small image": {"data": {"transform": "resize(0)"}},
    "a huge image": {"data": {"transform": "resize(2147483647)"}},
    "no transform": {"data": {"transform": 3}},
    "many at a time": {"train": {"eval_batch_size": 2**31 - 1}},
    "none at a time": {"train": {"eval_batch_size": 0}},
    "another model": {"model": {"name": "resnet18"}},
    "no model": {"model": {"name": "nothing"}},
    "a wide model": {"model": {"name": "mlp", "hidden": [10**9]}},
    "another source": {"data": {"source": "nowhere"}},
    "views that there are not": {"train": {"tta": "many"}},
    "precision that there is not": {"train": {"precision": "float3"}},
    "a list of a section": {"train": []},
}


def changed(content: dict, change: dict) -> dict:
    """The content with a change of nested values."""
    result = dict(content)
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(content.get(key), dict):
            value = changed(content[key], value)
        result[key] = value
    return result


@pytest.mark.parametrize(
    ("name", "changes"), [("data.json", DATA), ("config.json", OPTIONS)], ids=str
)
def test_predictions_of_a_hostile_run_are_refused_in_a_line(name, changes, tried, run, monkeypatch):  # noqa: F811
    """Before anything of that size is made."""
    monkeypatch.setattr(
        predict_module, "build_predict", lambda *_, **__: pytest.fail("it was built")
    )
    before = json.loads((run.path / name).read_text())
    for change in changes.values():
        (run.path / name).write_text(json.dumps(changed(before, change)))
        message = tried.refuses(commands.predict.predict, str(run.path), ["nothing.png"])
        assert len(message) < 1500


UNKNOWN = {"score": "energy", "threshold": 0.5, "mass": 0.5, "step": 3}
DISAGREEING = [
    ("test.json", {"confusion": [[1, 2], [3]]}),
    ("test.json", {"confusion": [[1, 2], [3, 4]], "per_class": []}),
    ("test.json", {"confusion": [[1]], "per_class": [{"name": "a"}, {"name": "b"}]}),
    ("data.json", {"class_names": ["a", "b"], "splits": {"train": {"class_counts": [1]}}}),
    ("calibration.json", {"as_trained": {"reliability": []}}),
    ("calibration.json", {"scaled": {"reliability": [{"bin": 0, "examples": 0}]}}),
    ("calibration.json", {"rejection": []}),
    ("robustness.json", {"corruptions": {}}),
    ("robustness.json", {"corruptions": {"fog": []}}),
    ("unknown.json", UNKNOWN | {"score": "other"}),
    ("unknown.json", UNKNOWN | {"test": {"examples": 3, "strangest": [3]}}),
    ("unknown.json", UNKNOWN | {"test": {"sizes": [{"images": 0}]}}),
    ("unknown.json", UNKNOWN | {"threshold": None}),
    ("ensemble.json", {"members": [{"weight": 1.0}], "disagreement": [[0.0, 1.0]]}),
    ("ensemble.json", {"members": [], "test": {"confusion": [[]]}}),
]


@pytest.mark.parametrize(("name", "content"), DISAGREEING, ids=str)
def test_parts_of_a_file_that_do_not_agree(name, content, tried, tmp_path):
    tried.refuses(schema.parse, tmp_path / name, json.dumps(content))


def test_every_published_file_is_of_its_kind():
    """The schema accepts what all versions so far have written."""
    count = 0
    for name in schema.KINDS:
        for path in sorted((ROOT / "results").rglob(name)):
            texts = [path.read_text()]
            if name.endswith(".jsonl"):
                texts = texts[0].split("\n")[:-1]
            for text in texts:
                schema.parse(path, text)
                count += 1
    assert count > 1000


def test_the_losses_of_a_run_that_diverged_are_read(run):  # noqa: F811
    content = run.read_json("test.json")
    losses = {"loss": float("nan"), "validation_loss": float("inf")}
    (run.path / "test.json").write_text(json.dumps(content | losses))
    assert math.isnan(run.test["loss"])


def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(schema, "MAX_BYTES", 100)
    (tmp_path / "test.json").write_text(" " * 101 + "{}")
    with pytest.raises(RunError, match="more than 100 bytes"):
        RunFolder(tmp_path).read_json("test.json")


@pytest.mark.parametrize(
    "config",
    [
        {"seed": 0, "data": {"source": "digits"}, "model": {"name": "cnn"}},
        {"seed": 0, "data": {"source": "digits", "transform": 5}, "model": {"name": "cnn"}},
        {"seed": 0, "data": {"source": "digits"}, "model": {"name": "cnn", "filters": "abc"}},
    ],
)
def test_weights_of_a_run_whose_config_cannot_be(config, tried, tmp_path):
    RunFolder(tmp_path).write_json("config.json", config)
    student = test_config.changed(**{"model.pretrained": str(tmp_path)})
    assert "config.json" in tried.refuses(api.check_config, student)
    options = argparse.Namespace(action="export", weights=str(tmp_path), to="w.pth", cache=None)
    assert "config.json" in tried.refuses(commands.weights.run, options)
