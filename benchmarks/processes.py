"""Contestants in processes of their own, which live as long as their task is measured."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.contestants import BEFORE, CHECKOUT, CONTESTANTS

ROOT = Path(__file__).parents[1]
# Variables that would change how a library computes.
NOT_INHERITED = (
    "XLA_FLAGS",
    "JAX_NUM_CPU_DEVICES",
    "KERAS_BACKEND",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
)
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
SHOWN_LINES = 8  # of what a failed process wrote


class WorkerError(RuntimeError):
    """A contestant's process ended; the message has the end of what it wrote."""


def environment_without(*names: str) -> dict[str, str]:
    """Returns this process's environment without NOT_INHERITED and without these variables."""
    left_out = {*NOT_INHERITED, *names}
    return {name: value for name, value in os.environ.items() if name not in left_out}


class Worker:
    """The process of a contestant on a task.

    It starts with the object, is warm after `ready`, and ends with the context.
    """

    def __init__(self, task: str, contestant: str):
        self.name = f"{contestant} on {task}"
        if contestant == BEFORE:
            environment = environment_without()
        else:
            environment = environment_without(CHECKOUT)
        environment |= QUIET
        environment |= CONTESTANTS[contestant].environment
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", task, contestant],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ready(self) -> dict[str, str]:
        """Waits for the end of the warm-up; returns the versions of the contestant's libraries."""
        return self._answer()["versions"]

    def measure(self, seconds: float) -> dict[str, Any]:
        """Trains for about `seconds`.

        Returns images, seconds, and peak_mib, the process's highest resident memory in MiB.
        """
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        return self._answer()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_) -> None:
        self._process.terminate()
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        written = self._process.stderr.read().strip().splitlines()
        end = "\n".join(written[-SHOWN_LINES:])
        raise WorkerError(f"{self.name} ended:\n{end}")
