"""environment.json names the weights that a run started from, also when others are in their place as it resumes."""

import dataclasses
import shutil

import pytest
from residual import DATA, small_config, train

from imgcls_jax import commands, trees
from imgcls_jax.data import checks
from imgcls_jax.pretrained import runs
from imgcls_jax.run_folder import RunFolder
from imgcls_jax.training import recorder


@pytest.fixture
def short(monkeypatch):
    """commands.train on the small data, without test and page: it counts as unfinished."""
    report = checks.check({"train": DATA.train, "validation": DATA.validation, "test": DATA.test})
    monkeypatch.setattr("imgcls_jax.data.load", lambda config: dataclasses.replace(DATA, report=report))
    monkeypatch.setattr("imgcls_jax.evaluation.predict.test", lambda run, splits: None)
    monkeypatch.setattr(recorder, "write_results", lambda run: None)
    for name in ("_report", "_figures"):
        monkeypatch.setattr(commands, name, lambda *arguments, **options: None)


def test_named_and_kept(tmp_path, short):
    source = train(small_config(**{"train.epochs": 1}), tmp_path / "source")
    config = small_config(**{"train.epochs": 1, "model.pretrained": str(source.path)})
    expected = {"resnet20": {"file": "source", "sha256": trees.digest(runs.read(source.path))}}
    commands.train(config, tmp_path / "run")
    assert RunFolder(tmp_path / "run").environment["weights"] == expected
    shutil.rmtree(source.path)
    train(small_config(**{"train.epochs": 1, "seed": 1}), tmp_path / "source")
    assert trees.digest(runs.read(source.path)) != expected["resnet20"]["sha256"]
    commands.train(config, tmp_path / "run")
    assert RunFolder(tmp_path / "run").environment["weights"] == expected


def test_no_weights_no_word(tmp_path, short):
    commands.train(small_config(**{"train.epochs": 1}), tmp_path / "run")
    assert "weights" not in RunFolder(tmp_path / "run").environment
