"""Runs that older versions began are resumed to their end."""

import tarfile
from pathlib import Path

import pytest

from imgcls_jax import commands
from imgcls_jax.run.folder import RunFolder
from tests.old_runs import small

ARCHIVES = sorted(Path(__file__).parent.glob("*.tar.xz"))


def test_there_are_runs_of_three_versions():
    assert len(ARCHIVES) >= 3


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.name.partition(".")[0])
def test_a_run_that_an_older_version_began_is_resumed_to_its_end(archive, tmp_path, caplog):
    with tarfile.open(archive) as file:
        file.extractall(tmp_path, filter="data")
    run = RunFolder(tmp_path / "run")
    before = [line | {"phase": 1} for line in run.history]  # the first version had no phases
    caplog.set_level("INFO", "imgcls_jax")
    commands.train.train(small.get_config(), run.path)
    assert run.finished
    assert "Resuming" in caplog.text and "damaged" not in caplog.text
    assert run.history[: len(before)] == before
    assert [line["epoch"] for line in run.history] == [1, 2, 3, 4, 5, 6]
    assert run.history[-1]["train_loss"] < before[-1]["train_loss"]
