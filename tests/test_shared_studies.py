"""Several processes on one study: each run is trained once, and what a killed one began goes on."""

import re
import signal
import time
import types

import pytest
from limits import HANGS

from imgcls_jax.commands import search, trainer
from imgcls_jax.commands import study as studies
from imgcls_jax.commands.trainer import Outcome, Trainer
from imgcls_jax.errors import RunError
from imgcls_jax.run import lock
from imgcls_jax.run.claim import claimed, is_claimed
from imgcls_jax.run.folder import CLAIM, RunFolder
from imgcls_jax.run.lock import FolderInUseError, FolderLock
from tests.faults.processes import Launched
from tests.old_runs import small

STUDY = """
from ml_collections import ConfigDict
from tests.faults import tiny

def get_config():
    row = tiny.get_config()
    row.train.update(epochs=20, early_stopping=0, batch_size=32, steps_per_dispatch=64)
    row.schedule.name = "constant"
    config = ConfigDict({"name": "shared", "title": "Shared", "seeds": (0, 1)})
    config.rows = ConfigDict({"tiny": {"config": row}})
    return config
"""


def wait_until(condition):
    latest = time.monotonic() + HANGS
    while not condition():
        assert time.monotonic() < latest, "it hangs"
        time.sleep(0.01)


def test_two_processes_share_a_study_and_one_that_is_killed_loses_nothing(tmp_path):
    (tmp_path / "shared.py").write_text(STUDY)
    study = tmp_path / "study"
    arguments = ["--config", str(tmp_path / "shared.py"), "--workdir", str(study)]
    seeds = [RunFolder(study / f"tiny-seed{seed}") for seed in (0, 1)]

    first = Launched(arguments, tmp_path / "first.txt")
    wait_until(lambda: is_claimed(seeds[0]) or first.code is not None)
    second = Launched(arguments, tmp_path / "second.txt")
    wait_until(lambda: is_claimed(seeds[1]) or second.code is not None)
    wait_until(lambda: (seeds[0].path / "metrics.jsonl").exists() or first.code is not None)
    first.send(signal.SIGKILL)

    assert first.wait() == -signal.SIGKILL, first.printed
    assert second.wait() == 0, second.printed
    assert "tiny-seed0 is trained by another process" in second.printed
    assert "tiny-seed1" not in first.printed
    assert re.search(r"Resum.*\d", second.printed), "the killed run was begun again"
    for run in seeds:
        assert run.finished and not is_claimed(run)
        assert [line["epoch"] for line in run.history] == list(range(1, 21))
        assert {path.name for path in run.path.glob(".*")} == {".lock"}
    assert "| tiny | 2 |" in (study / "table.md").read_text()


def test_a_run_whose_process_is_not_yet_gone_is_waited_for(tmp_path, monkeypatch):
    """Of a study that was killed: it may take long to stop, and has not failed."""
    monkeypatch.setattr(trainer, "PATIENCE", 0.1)
    for module, name in (
        (trainer, "_stop_with_parent"),
        (trainer.os, "setpgrp"),
        (trainer.console, "set_up"),
    ):
        monkeypatch.setattr(module, name, lambda: None)
    run = trainer.Planned("", small.get_config(), tmp_path / "run", {})
    with RunFolder(run.folder).locked(), pytest.raises(SystemExit) as stop:
        trainer._run_process(run)
    assert stop.value.code == trainer.FOLDER_IN_USE


def test_a_claim_is_of_one_process_and_leaves_no_files(tmp_path):
    run = RunFolder(tmp_path / "study" / "run")
    with claimed(run):
        assert is_claimed(run)
        with pytest.raises(FolderInUseError), claimed(RunFolder(run.path)):
            pass
        with run.locked():  # as the process does that trains it
            pass
        assert run.path.is_dir() and is_claimed(run)
    assert not run.path.exists()
    with claimed(run):
        (run.path / "file").touch()
    assert [path.name for path in run.path.iterdir()] == ["file"]


@pytest.mark.parametrize("command", [studies, search])
def test_however_long_another_process_writes_the_table_it_is_waited_for(
    command, tmp_path, monkeypatch
):
    """As where it measures the latency of many models."""
    scope = {}
    exec(STUDY, scope)
    config = scope["get_config"]()
    if command is search:
        config.search = (("optimizer.learning_rate", "uniform(0.1, 0.2)"),)
        config.trials = 1
    other = FolderLock(tmp_path / CLAIM)
    hours = iter(range(9))
    written = []

    def release_later(seconds):
        if next(hours) == 5:
            other.__exit__()

    clock = types.SimpleNamespace(monotonic=lambda: 3600 * next(hours), sleep=release_later)
    monkeypatch.setattr(lock, "time", clock)
    monkeypatch.setattr(Trainer, "_train", lambda *_: Outcome.FINISHED)
    monkeypatch.setattr(studies, "_compare", lambda *_: written.append("table"))
    monkeypatch.setattr(search, "_report", lambda *_: written.append("table"))
    command.train(config, tmp_path)
    assert written == ["table"]


def test_those_who_share_a_folder_keep_the_others_out(tmp_path):
    study = RunFolder(tmp_path / "study")
    other = RunFolder(study.path)
    refused = pytest.raises(RunError, match="Another process is training into")
    with study.locked(shared=True):
        with other.locked(shared=True):
            pass
        assert study.path.exists()  # the first is still at work
        with refused, other.locked():
            pass
    assert not study.path.exists()
    with study.locked(), refused, other.locked(shared=True):
        pass
