"""The batch script of docs/distributed.md, with SLURM's variables and commands imitated."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from limits import HANGS

from imgcls_jax.run.folder import RunFolder
from tests.training.test_processes import wait_for_an_epoch

ROOT = Path(__file__).parents[2]
TASKS = 3
EPOCHS = 1000  # more than there is time for
SMALL = f"""
from configs import base

def get_config():
    config = base.get_config()
    config.data.source = config.data.name = "digits"
    config.model.update(name="cnn", filters=(4,))
    config.train.update(epochs={EPOCHS}, batch_size=150, eval_batch_size=150, cpu_devices=1)
    return config
"""
# Starts three processes, as if each were on a node, and returns the largest exit status.
SRUN = f"""#!{sys.executable}
import os, pathlib, subprocess, sys

tasks = []
for task in range({TASKS}):
    environment = os.environ | {{
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "{TASKS}",
        "SLURM_PROCID": str(task),
        "SLURM_LOCALID": "0",
    }}
    tasks.append(subprocess.Popen(sys.argv[1:], env=environment))
pathlib.Path(__file__).with_name("tasks").write_text(" ".join(str(task.pid) for task in tasks))
sys.exit(max(task.wait() for task in tasks))
"""
SCANCEL = """#!/bin/bash
echo "scancel $@"
kill -TERM $(cat "$(dirname "$0")/tasks")
"""
SCONTROL = """#!/bin/bash
echo "scontrol $@"
"""
COMMANDS = {"srun": SRUN, "scancel": SCANCEL, "scontrol": SCONTROL}


@pytest.fixture
def cluster(tmp_path):
    """A function that starts the batch script with such arguments."""
    page = (ROOT / "docs" / "distributed.md").read_text()
    (script,) = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    (tmp_path / "train.sh").write_text(script)
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in COMMANDS.items():
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    path = os.pathsep.join([str(commands), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "SLURM_JOB_ID": job_with_free_port()}
    environment.pop("XLA_FLAGS", None)

    def start(*arguments):
        return subprocess.Popen(
            ["bash", tmp_path / "train.sh", *arguments],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    return start


def job_with_free_port() -> str:
    """The id of a job for which JAX chooses a port that is free: one of 4,096, by the id."""
    while True:
        job = random.randrange(4096)
        with socket.socket() as free:
            try:
                free.bind(("localhost", 65536 - 4096 + job))
                return str(job)
            except OSError:
                pass


def test_a_job_stops_saves_and_queues_itself_again(cluster, tmp_path):
    config = tmp_path / "small.py"
    config.write_text(SMALL)
    run = RunFolder(tmp_path / "run")
    job = cluster(str(config), f"--workdir={run.path}")
    wait_for_an_epoch(run.path, job)
    job.send_signal(signal.SIGUSR1)
    printed, _ = job.communicate(timeout=HANGS)
    assert job.returncode == 0 and "\nscancel --signal=TERM " in printed, printed
    assert printed.splitlines()[-1].startswith("scontrol requeue "), printed
    assert printed.count("Stopped by SIGTERM; everything is saved") == TASKS
    assert 1 <= len(run.history) < EPOCHS
    assert (run.environment["device_count"], run.environment["processes"]) == (TASKS, TASKS)
