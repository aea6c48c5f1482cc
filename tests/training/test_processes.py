"""Several processes of launch.py that train one model.

Their numbers, which one writes, and what happens when one of them dies.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from limits import HANGS, assert_quick

from imgcls_jax import distributed
from imgcls_jax.errors import ConfigError
from imgcls_jax.run.folder import RunFolder

ROOT = Path(__file__).parents[2]
GLOO = "[Gloo] Rank is connected to peer ranks. Expected number of connected peer ranks is :"
# With momentum, since Adam divides by the size of gradients, which enlarges rounding errors.
SMALL = """
from configs import base

def get_config():
    config = base.get_config()
    config.data.source = config.data.name = "digits"
    config.data.transform = "random_crop(1)"
    config.model.name = "attention"
    config.optimizer.update(name="sgd", momentum=0.9, learning_rate=0.05)
    config.train.update(epochs=8, batch_size=160, eval_batch_size=160, steps_per_dispatch=4, cpu_devices=2)
    return config
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("configs") / "small.py"
    path.write_text(SMALL)
    return path


def start(config, workdir, *options):
    return subprocess.Popen(
        [sys.executable, "launch.py", "--config", str(config), "--workdir", str(workdir), *options],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "XLA_FLAGS"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def end(process, code: int = 0) -> str:
    """Waits for its end and returns what it printed."""
    printed, _ = process.communicate(timeout=HANGS)
    assert process.returncode == code, printed
    return printed


@contextlib.contextmanager
def two(config, workdir, *, second=()):
    """Two processes. The second one has another work folder, which it must not use."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    options = (f"--coordinator=localhost:{port}", "--processes=2")
    pair = [
        start(config, workdir, *options, "--process=0"),
        start(config, workdir.with_name("other"), *options, "--process=1", *second),
    ]
    try:
        yield pair
    finally:
        for process in pair:
            process.kill()
            process.communicate()


def wait_for_an_epoch(workdir, *processes):
    """Waits until metrics.jsonl has another line."""
    file = workdir / "metrics.jsonl"
    lines = file.read_text().count("\n") if file.exists() else 0
    while not (file.exists() and file.read_text().count("\n") > lines):
        assert all(process.poll() is None for process in processes), [
            process.communicate() for process in processes
        ]
        time.sleep(0.02)


def losses(run):
    return [(line["train_loss"], line["validation_loss"]) for line in run.history] + [
        (run.test["loss"], 0.0)
    ]


def accuracies(run):
    lines = [(line["train_accuracy"], line["validation_accuracy"]) for line in run.history]
    return [*lines, run.test["accuracy"], run.test["best_epoch"]]


def newest(run):
    """Hashes of the newest checkpoint."""
    step = max(
        int(path.name) for path in (run.path / "checkpoints").iterdir() if path.name.isdigit()
    )
    return RunFolder(run.path / "checkpoints" / str(step)).read_json("progress/metadata")["hashes"]


@pytest.fixture(scope="module")
def two_processes(config, tmp_path_factory):
    """An undisturbed run of two processes with two devices each."""
    run = RunFolder(tmp_path_factory.mktemp("two_processes") / "run")
    with two(config, run.path) as (first, second):
        assert f"report: {run.path / 'report.html'}" in end(first)
        printed = end(second)
    # Gloo's own lines cannot be turned off, and its threads print them into each other.
    words = {word for word in printed.split() if not word.isdigit()}
    assert words <= set(GLOO.split()), printed
    assert [path.name for path in run.path.parent.iterdir()] == ["run"], "the second process wrote"
    assert (run.environment["device_count"], run.environment["processes"]) == (4, 2)
    return run


def test_two_processes_give_the_numbers_of_one_and_so_does_going_on_with_more_devices(
    config, two_processes, tmp_path
):
    """Numbers are equal to rounding, since the sum over four devices has another order.

    The single process begins with one device and goes on with four.
    """
    alone = RunFolder(tmp_path / "alone")
    process = start(config, alone.path, "--config.train.cpu_devices=1")
    wait_for_an_epoch(alone.path, process)
    process.terminate()
    end(process, 128 + signal.SIGTERM)
    before = len(alone.history)
    assert alone.environment["device_count"] == 1 and 1 <= before < 8
    printed = end(start(config, alone.path, "--config.train.cpu_devices=4"))
    assert "The run was on 1 device so far and continues on 4: its numbers" in printed
    assert "to rounding" in printed
    assert (alone.environment["device_count"], alone.environment["processes"]) == (4, 1)
    assert len(alone.history) == 8 and alone.test["accuracy"] > 0.5
    np.testing.assert_allclose(losses(two_processes), losses(alone), rtol=1e-5)
    assert accuracies(two_processes) == accuracies(alone)


def test_one_that_dies_ends_the_other_within_a_minute_and_the_run_resumes_to_the_same_bits(
    config, two_processes, tmp_path
):
    """SIGTERM to the second one stops both properly. Then the second one is killed."""
    run = RunFolder(tmp_path / "run")
    with two(config, run.path) as (first, second):
        wait_for_an_epoch(run.path, first, second)
        second.terminate()
        for process in (first, second):
            assert "Stopped by SIGTERM; everything is saved" in end(process, 128 + signal.SIGTERM)
    with two(config, run.path) as (first, second):
        wait_for_an_epoch(run.path, first, second)
        second.kill()
        killed = time.perf_counter()
        printed = end(first, 1)
        assert_quick(time.perf_counter() - killed, 60)
    last = printed.splitlines()[-1]
    assert f"error: process 1 on {socket.gethostname()} is gone" in last, printed
    assert "in all 2 processes, resume" in last, printed
    assert "Traceback" not in printed
    assert len(run.history) < 8, "the run is too short to be interrupted"
    with two(config, run.path) as (first, second):
        assert "Resuming" in end(first)
        end(second)
    assert newest(run) == newest(two_processes)
    assert losses(run) == losses(two_processes) and accuracies(run) == accuracies(two_processes)
    assert [path.name for path in tmp_path.iterdir()] == ["run"], "the second process wrote"


def test_a_port_that_is_taken_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        joining = distributed.Joining(f"127.0.0.1:{port}", num_processes=2, process_id=0)
        with pytest.raises(ConfigError, match=f"listen on port {port} here.*all processes another"):
            distributed.join(joining)
    joining = distributed.Joining("localhost:99999", num_processes=2, process_id=0)
    with pytest.raises(ConfigError, match="every process is given all three"):
        distributed.join(joining)


def test_what_cannot_be_is_refused(config, tmp_path):
    options = ["--coordinator=localhost:1", "--processes=2"]
    for wrong, message in (
        (options, "every process is given all three"),
        ([*options, "--process=2"], "every process is given all three"),
        (
            [*options, "--process=0", "--profile"],
            "--coordinator has no effect here: --profile takes",
        ),
        ([*options, "--distributed=auto"], "give one or the other"),
        (["--distributed=auto"], "finds no cluster that says which processes there are"),
    ):
        printed = end(start(config, tmp_path / "run", *wrong), 2)
        assert message in printed and "Traceback" not in printed
    with two(config, tmp_path / "run", second=["--config.seed=1"]) as (first, second):
        assert "error: Process 1 was given another config than the first process" in end(second, 2)
        assert f"process 1 on {socket.gethostname()} is gone" in end(first, 1)
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "one.txt").write_text("")
    # The second one waits for the first one, the coordinator.
    with two(config, tmp_path / "letters") as (first, second):
        assert "holds other files and no run" in end(first, 2)
        last = end(second, 1).splitlines()[-1]
        assert f"process 0 on {socket.gethostname()} is gone" in last
    assert not (tmp_path / "run" / "checkpoints").exists()
