"""What --dry_run says of runs that cannot start yet; tests/test_studies.py has those that can."""

import logging
import re
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from configs import base
from imgcls_jax import api
from imgcls_jax.commands import dry_run
from imgcls_jax.errors import ConfigError, RunError
from imgcls_jax.evaluation import classifiers
from imgcls_jax.training.estimates import Estimate


class Pool:
    """Estimates without processes: an hour for every run."""

    def __init__(self, *args, **options):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *args):
        pass

    def submit(self, function, config):
        return self

    def result(self):
        return Estimate(
            parameters=10, trainable=4, features=0.0, per_epoch=(3600.0 / config_epochs(),)
        )


def config_epochs() -> int:
    return base.get_config().train.epochs


def small(**options) -> ConfigDict:
    config = base.get_config()
    config.data.source = config.data.name = "digits"
    config.update_from_flattened_dict(options)
    return config


@pytest.fixture
def shown(tmp_path, monkeypatch, capsys):
    """shown(config): what is printed; the folder has a config by the name `first`."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "first.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dry_run, "ProcessPoolExecutor", Pool)

    def show(config):
        dry_run.show(config, Path("runs/one"))
        return capsys.readouterr().out

    return show


@pytest.mark.parametrize("option", ["model.pretrained", "objective"])
def test_a_run_without_the_run_that_it_starts_from(shown, option):
    value = (
        "runs/first"
        if option == "model.pretrained"
        else ConfigDict({"name": "distill", "teacher": "runs/first"})
    )
    config = small()
    config.update(
        ConfigDict(
            {"model": {"pretrained": value}} if option == "model.pretrained" else {option: value}
        )
    )
    text = shown(config)
    assert re.search(r"\| one +\| cannot start", text)
    assert "it needs runs/first, which is not there." in text
    assert "there. Train it first: python launch.py --config configs/first.py." in text
    assert "No run can start, so their time is not known; nothing was trained." in text
    assert "0 s" not in text


def test_a_study_whose_rows_start_from_what_it_trains_first(shown):
    study = ConfigDict({"name": "rows", "title": "Rows", "seeds": (0,), "grid": (), "budget": 0.0})
    study.needs = ConfigDict({"first": small()})
    study.rows = ConfigDict({"a": {"config": small(**{"model.pretrained": "runs/first"})}})
    text = shown(study)
    assert "a-seed0: it starts from runs/first, which is trained before it" in text
    assert text.splitlines()[-1].startswith("1 h") and "without 1 of 2 runs" in text


def test_weights_that_have_to_be_fetched(shown, tmp_path):
    weights = {
        "model.name": "resnet18",
        "model.pretrained": "resnet18_v1",
        "pretrained.cache": str(tmp_path / "cache"),
    }
    text = shown(small(**weights))
    assert "To be fetched first: resnet18_v1." in text
    assert "without fetching the weights; nothing" in text
    (tmp_path / "cache").mkdir()
    from imgcls_jax.pretrained import CATALOG, download

    download.cached_path(CATALOG["resnet18_v1"], tmp_path / "cache").touch()
    assert "fetch" not in shown(small(**weights))


def test_a_missing_run_is_named_with_the_command_that_trains_it(shown):
    first = r"Train it first: python launch\.py --config configs/first\.py"
    with pytest.raises(ConfigError, match=f"no weights 'runs/first'.*{first}"):
        api.check_config(small(**{"model.pretrained": "runs/first"}))
    with pytest.raises(RunError, match=f"runs/first is not there.*{first}"):
        classifiers.load("runs/first")
    with pytest.raises(ConfigError) as caught:
        api.check_config(small(**{"model.pretrained": "runs/nonesuch"}))
    assert "Train it" not in str(caught.value)


def test_a_teacher_in_the_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = small(**{"objective.name": "distill", "objective.teacher": "~/teacher"})
    assert dry_run._missing(config) == ["~/teacher"]
    (tmp_path / "teacher").mkdir()
    assert dry_run._missing(config) == []


def test_a_dry_run_is_quiet_and_leaves_the_log_as_it_was(shown):
    log = logging.getLogger("imgcls_jax")
    level = log.level
    log.setLevel("INFO")
    try:
        shown(small())
        assert log.level == logging.INFO
    finally:
        log.setLevel(level)
