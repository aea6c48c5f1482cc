"""The benchmark of a GPU's day: its order, its commands, what is published, and going on."""

import ast
import json
import subprocess

import pytest

from benchmarks import gpu
from imgcls_jax.commands import overrides


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """The commands that would run; each of them succeeds and prints a speed."""
    calls = []

    def run(arguments, folder, *, seconds):
        calls.append(list(arguments))
        return subprocess.CompletedProcess(arguments, 0, "12.3 GFLOP; 45,678 images/s.\nTrace: x")

    monkeypatch.setattr(gpu, "run", run)
    return calls


def names(calls):
    """What each command trains, measures or publishes."""
    found = []
    for arguments in calls:
        (name,) = [part for part in arguments if "runs/" in part]
        verb = arguments[2] if arguments[0] == "-m" else "train"
        found.append(f"{verb} {name.rpartition('runs/')[2]}")
    return found


def test_the_most_valuable_is_first_and_each_is_published_as_it_ends(calls, tmp_path, capsys):
    gpu.main(["--folder", str(tmp_path)])
    done = names(calls)
    assert done[:3] == ["train cifar_se_resnet", "publish cifar_se_resnet", "profile se_resnet"]
    assert done[-2:] == ["train se_resnet_optimizers", "publish se_resnet_optimizers"]
    assert "| se_resnet | 45,678 | 36,000 |" in capsys.readouterr().out
    calls.clear()
    gpu.main(["--folder", str(tmp_path)])
    assert not [name for name in names(calls) if name.startswith("profile")]
    assert len(json.loads((tmp_path / gpu.GOALS_FILE).read_text())) == 7


def test_nothing_begins_when_the_time_is_over(calls, tmp_path, capsys):
    gpu.main(["--folder", str(tmp_path), "--minutes", "0"])
    assert not calls and "the time is over before cifar_se_resnet" in capsys.readouterr().err


def test_an_unfinished_run_is_not_published(calls, tmp_path, monkeypatch, capsys):
    stopped = subprocess.CompletedProcess([], 143, "Stopped by SIGTERM")
    monkeypatch.setattr(gpu, "run", lambda *arguments, **options: calls.append(1) or stopped)
    gpu.main(["--folder", str(tmp_path), "--stages", "cifar_se_resnet"])
    assert len(calls) == 1 and "is not finished (exit status 143)" in capsys.readouterr().err


@pytest.mark.parametrize("stage", gpu.STAGES, ids=lambda stage: stage.name)
@pytest.mark.parametrize("is_miniature", [False, True])
def test_every_command_gives_a_config(stage, is_miniature):
    miniature = ()
    if is_miniature:
        miniature = gpu.MINIATURE
        if "studies" in stage.config:
            miniature = gpu._rows(miniature)
    arguments = [part for part in stage.command(miniature) if part.startswith("--config.")]
    config = loaded(str(gpu.ROOT / "configs" / stage.config), arguments)
    runs = [config]
    if "rows" in config:
        assert set(config.rows) == set(gpu.OPTIMIZER_ROWS)
        runs = [row.config for row in config.rows.values()]
    for run in runs:
        assert run.train.precision == "bfloat16"
        assert (run.train.epochs == 1) == is_miniature
        assert run.schedule.get("warmup_epochs", 0) < run.train.epochs


def loaded(file, arguments):
    """The config of a file with these options."""
    changes = {}
    for argument in arguments:
        path, _, text = argument.removeprefix("--config.").partition("=")
        try:
            changes[path] = ast.literal_eval(text)
        except (SyntaxError, ValueError):
            changes[path] = text
    config = overrides.read(file, changes)
    overrides.apply(config, changes, source="the benchmark")
    return config


def test_a_command_that_takes_too_long_is_told_to_stop(tmp_path):
    waiting = "import time; print('started', flush=True); time.sleep(600)"
    done = gpu.run(["-c", waiting], tmp_path, seconds=1.0)
    assert done.returncode == -15
