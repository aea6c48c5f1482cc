"""The benchmark of training runs, with tiny settings, and makes tables of its figures."""

import dataclasses
import json
import subprocess
import sys

import pytest

from benchmarks import contestants, ours, tasks, train
from benchmarks.contestants import CONTESTANTS
from benchmarks.processes import ROOT, Worker, WorkerError, environment_without


def test_ratios_are_taken_within_a_round():
    rates = {"ours": [10.0, 30.0], "torch": [5.0, 10.0]}
    assert train.ratios(rates, "torch") == [2.0, 3.0]
    lstm = {"ours": [200.0, 200.0], "keras": [100.0, 100.0]}
    assert train.table({"cnn": rates, "lstm": lstm}).splitlines() == [
        "| model | ours | torch | keras |",
        "| --- | ---: | ---: | ---: |",
        "| cnn (64) | 20.0 (10.0 to 30.0) | 7.5: 2.50 (2.00 to 3.00) |  |",
        "| lstm (128) | 200 (200 to 200) |  | 100: 2.00 (2.00 to 2.00) |",
    ]


def test_unknown_names_are_refused(capsys):
    with pytest.raises(SystemExit):
        train.parse(["--peers", "torch,pytorch"])
    assert "there is no 'pytorch'; choose from jax_naive, keras, torch" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        train.parse(["--ours", "ours_jit"])


def test_what_is_not_installed_is_left_out_by_name(monkeypatch, capsys):
    absent = contestants.Contestant("torch_eager", packages=("no_such_package",))
    monkeypatch.setitem(CONTESTANTS, "torch", absent)
    assert train.available(["ours", "torch"]) == ["ours"]
    assert "torch is left out: no_such_package not installed" in capsys.readouterr().out


def test_contestants_take_part_in_what_they_have():
    def able(name, task):
        return CONTESTANTS[name].takes(tasks.TASKS[task])

    assert able("keras", "efficientnet_b0") and not able("keras", "efficientnet_b0_head")
    assert not able("keras", "googlenet") and not able("torch", "efficientnetv2_b0")
    assert all(able("ours", task) for task in tasks.TASKS)


def test_the_training_of_another_checkout_is_its_own(tmp_path):
    """Its benchmarks/ours.py is used if there is one."""
    module = tmp_path / "benchmarks" / "ours.py"
    module.parent.mkdir()
    module.write_text("raise ImportError('its own ours.py')")
    code = "from benchmarks.worker import use_checkout; use_checkout(); import benchmarks.ours"
    environment = environment_without() | {contestants.CHECKOUT: str(tmp_path)}
    command = [sys.executable, "-c", code]
    process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert "its own ours.py" in process.stderr


def test_another_checkout_is_measured_in_the_same_run(tmp_path, monkeypatch):
    """The package of the checkout is the one that is imported, which here fails."""
    monkeypatch.setenv(contestants.CHECKOUT, "")  # so that what train.main sets is undone
    (tmp_path / "imgcls_jax").mkdir()
    (tmp_path / "imgcls_jax" / "__init__.py").write_text("raise ImportError('another checkout')")
    arguments = ["--models", "cnn", "--ours", "ours", "--peers", "", "--before", str(tmp_path)]
    arguments += ["--rounds", "1", "--seconds", ".01", "--output", str(tmp_path / "table")]
    with pytest.raises(WorkerError, match="before on cnn ended:(.|\n)*another checkout"):
        train.main(arguments)


@pytest.mark.parametrize("dispatch", ["scanned", "jit"])
def test_ours_runs_as_the_loop_does(dispatch, monkeypatch):
    tiny = dataclasses.replace(tasks.TASKS["attention"], batch_size=4, examples=12)
    monkeypatch.setitem(tasks.TASKS, "attention", tiny)
    ours.create("attention", dispatch=dispatch)(5)  # more than an epoch


def test_ours_predicts_and_trains_a_part(monkeypatch):
    for suffix, trains in (("_predict", tasks.NOTHING), ("_head", "^classifier")):
        tiny = dataclasses.replace(tasks.TASKS["cnn"], batch_size=4, examples=12, trains=trains)
        monkeypatch.setitem(tasks.TASKS, f"cnn{suffix}", tiny)
        ours.create(f"cnn{suffix}")(4)


def test_a_table_from_processes_to_files(tmp_path, capsys):
    arguments = ["--models", "attention", "--ours", "ours", "--peers", "jax_naive"]
    arguments += ["--rounds", "1", "--seconds", ".01", "--output", str(tmp_path / "table")]
    train.main(arguments)
    record = json.loads((tmp_path / "table.json").read_text())
    rates = record["images_per_second"]["attention"]
    assert {name: len(values) for name, values in rates.items()} == {"ours": 1, "jax_naive": 1}
    assert record["command"].startswith("python -m benchmarks.train --models attention")
    assert (tmp_path / "table.md").read_text() in capsys.readouterr().out


@pytest.mark.parametrize("name", ["keras", "torch"])
def test_peers_run(name):
    missing = CONTESTANTS[name].missing()
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")
    with Worker("cnn", name) as worker:
        worker.ready()
        assert worker.measure(0.01)["images"] >= 64


def test_a_worker_that_ends_says_why():
    with (
        Worker("nothing", "ours") as worker,
        pytest.raises(WorkerError, match="ours on nothing ended:(.|\n)*KeyError"),
    ):
        worker.ready()
