"""environment.json names the weights that a run started from, also when others are in their place as it resumes."""

import dataclasses
import hashlib

import numpy as np
import pytest
from residual import DATA, small_config

from imgcls_jax import commands, trees
from imgcls_jax.data import checks
from imgcls_jax.pretrained import safetensors_format
from imgcls_jax.run import resuming
from imgcls_jax.run.folder import RunFolder
from imgcls_jax.training import recorder, setup


@pytest.fixture
def short(monkeypatch):
    """commands.train.train on the small data, without test and page: it counts as unfinished."""
    report, digests = checks.check_with_digests(
        {"train": DATA.train, "validation": DATA.validation, "test": DATA.test}
    )
    splits = dataclasses.replace(DATA, report=report, digests=digests)
    monkeypatch.setattr("imgcls_jax.data.load", lambda config, **_: splits)
    monkeypatch.setattr("imgcls_jax.evaluation.predict.test", lambda run, splits: None)
    monkeypatch.setattr(recorder, "write_results", lambda run: None)
    monkeypatch.setattr(commands.runs, "write_report", lambda *arguments, **options: None)
    monkeypatch.setattr(resuming, "figures", lambda run: "")


def write(path, config, factor: float) -> str:
    """A file of weights of the config's model, times a factor; returns its SHA-256."""
    state = setup.build(config, DATA)[0].drawn_state()
    arrays = trees.flatten({"params": state.params, **state.model_state})
    arrays = {name: factor * np.asarray(array) for name, array in arrays.items()}
    safetensors_format.write(path, arrays, {"model": config.model.name})
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_named_and_kept(tmp_path, short):
    config, file = small_config(**{"train.epochs": 1}), tmp_path / "start.safetensors"
    expected = {"resnet20": {"file": file.name, "sha256": write(file, config, 1.0)}}
    config.model.pretrained = str(file)
    commands.train.train(config, tmp_path / "run")
    assert RunFolder(tmp_path / "run").environment["weights"] == expected
    assert write(file, config, 0.5) != expected["resnet20"]["sha256"]
    commands.train.train(config, tmp_path / "run")
    assert RunFolder(tmp_path / "run").environment["weights"] == expected


def test_no_weights_no_word(tmp_path, short):
    commands.train.train(small_config(**{"train.epochs": 1}), tmp_path / "run")
    assert "weights" not in RunFolder(tmp_path / "run").environment
