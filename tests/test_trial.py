"""A quick trial (config.quick): what it takes, where it is, and which tables leave it out."""

import os

import numpy as np
import pytest
from ml_collections import ConfigDict

import imgcls_jax
from imgcls_jax import commands, data
from imgcls_jax.commands import study as studies
from imgcls_jax.config import trial
from imgcls_jax.data.splits import stratified_share
from imgcls_jax.errors import ConfigError, RunError
from imgcls_jax.run.folder import RunFolder, without_trials
from imgcls_jax.training import checks
from tests.old_runs import small


def small_trial(**options) -> ConfigDict:
    config = small.get_config()
    config.update_from_flattened_dict({"name": "small", "quick": 0.1, **options})
    return config


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder that has runs/small-trial, and the run."""
    folder = tmp_path_factory.mktemp("trial")
    before = os.getcwd()
    os.chdir(folder)
    try:
        run = imgcls_jax.train(small_trial())
    finally:
        os.chdir(before)
    return folder, RunFolder(folder / run.path)


def test_a_share_is_of_each_class_and_rounded_up():
    labels = np.array([0] * 10 + [1] * 25 + [2])
    share = stratified_share(labels, 0.1, seed=3)
    assert np.bincount(labels[share]).tolist() == [1, 3, 1]
    assert (np.diff(share) > 0).all()
    assert (share == stratified_share(labels, 0.1, seed=3)).all()
    assert (stratified_share(labels, 1.0, seed=3) == np.arange(36)).all()


def test_all_sets_are_as_much_smaller():
    config = small.get_config().data
    whole = data.load(config)
    quick = data.load(config, quick=0.1)
    for split in ("train", "validation", "test"):
        size = len(getattr(whole, split))
        assert 0.1 * size <= len(getattr(quick, split)) <= 0.1 * size + 10
        assert set(getattr(quick, split).labels) == set(range(10))
    assert quick.report["splits"]["train"]["examples"] == len(quick.train)
    assert data.load(config, quick=0.0).fingerprint == whole.fingerprint


def test_a_trial_is_short_has_a_folder_of_its_own_and_says_what_it_is(trained, caplog):
    folder, run = trained
    assert run.path == folder / "runs" / "small-trial" and run.finished and run.is_trial
    assert len(run.history) == trial.EPOCHS
    assert "This is a trial on 10 % of the images" in (run.path / "report.html").read_text()
    caplog.set_level("INFO", "imgcls_jax")
    imgcls_jax.train(small_trial(), run.path)
    assert "is finished" in caplog.text and "a trial on 10 % of the images: test" in caplog.text
    assert imgcls_jax.evaluate(run)["accuracy"] == run.test["accuracy"]
    with pytest.raises(RunError, match="quick: 0.1 there, 0.0 now"):
        imgcls_jax.train(small.get_config(), run.path)


def test_tables_leave_trials_out(trained, tmp_path, monkeypatch, caplog):
    _, run = trained
    monkeypatch.chdir(tmp_path)
    words = "small-trial: trials on a share of the images. Train without"
    with pytest.raises(RunError, match=words):
        commands.compare.compare([str(run.path)])
    with pytest.raises(RunError, match=words):
        commands.publish.publish([str(run.path)])
    with pytest.raises(RunError, match="no finished run below"):
        commands.index.index([str(run.path.parent)])
    assert not (tmp_path / "results").exists()
    whole = RunFolder(tmp_path / "whole")
    assert without_trials([whole, run]) == [whole]
    assert f"Left out, since trials on a share of the images: {run.path}." in caplog.text


def test_a_whole_run_has_no_mark():
    config = small.get_config()
    assert trial.shortened(config) is config
    assert trial.folder_name("small", config) == "small" and not trial.description(0.0)


def test_phases_and_their_warm_ups_are_short_too():
    config = small_trial(**{"schedule.warmup_epochs": 4.0})
    config.adapt.phases = ConfigDict(
        {
            "first": {"train": {"epochs": 30}, "schedule": {"warmup_epochs": 20.0}},
            "second": {"adapt": {"trainable": ("^classifier/",)}},
        }
    )
    short = trial.shortened(config)
    checks.check(short)
    assert short.train.epochs == short.adapt.phases.first.train.epochs == 2
    assert short.schedule.warmup_epochs == short.adapt.phases.first.schedule.warmup_epochs == 1
    assert config.train.epochs == 6 and "train" not in short.adapt.phases.second


def test_a_studys_rows_and_what_they_need_are_trials(tmp_path):
    study = ConfigDict({"name": "rows", "title": "Rows", "seeds": (0,), "grid": (), "quick": 0.2})
    study.needs = ConfigDict({"first": small.get_config()})
    row = small.get_config()
    row.model.pretrained = "runs/first"
    study.rows = ConfigDict({"a": {"config": row}})
    first, second = studies.plan(study, tmp_path)
    assert str(first.folder) == "runs/first-trial" == second.config.model.pretrained
    assert first.config.quick == second.config.quick == 0.2
    assert studies.title(study) == "Rows: a trial on 20 % of the images"
    study.quick = 0.0
    first, second = studies.plan(study, tmp_path)
    assert str(first.folder) == "runs/first" == second.config.model.pretrained
    study.quick = 1.5
    with pytest.raises(ConfigError, match="quick is 1.5: give at least 0 and below 1"):
        studies.plan(study, tmp_path)


def test_a_share_smaller_than_a_batch_is_refused_with_the_way_forward(tmp_path):
    with pytest.raises(ConfigError, match="give at most that, or a larger config.quick"):
        imgcls_jax.train(small_trial(quick=0.01, **{"train.batch_size": 500}), tmp_path / "run")
