"""Contestants in processes of their own, which live as long as their task is measured."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.contestants import BEFORE, CHECKOUT, CONTESTANTS

ROOT = Path(__file__).parents[1]
# What would change how a library computes is not taken over from the caller's environment.
NOT_INHERITED = (
    "XLA_FLAGS",
    "JAX_NUM_CPU_DEVICES",
    "KERAS_BACKEND",
    "OMP_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
)
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}


class WorkerError(RuntimeError):
    """A contestant's process that ended, with the end of what it wrote."""


class Worker:
    """A contestant on a task: started here, warm after `ready`, measured by `measure`, ended with the context."""

    def __init__(self, task: str, contestant: str):
        self.name = f"{contestant} on {task}"
        left_out = NOT_INHERITED if contestant == BEFORE else (*NOT_INHERITED, CHECKOUT)
        environment = {key: value for key, value in os.environ.items() if key not in left_out}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", task, contestant],
            cwd=ROOT,
            env=environment | QUIET | dict(CONTESTANTS[contestant].environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ready(self) -> dict[str, str]:
        """Waits for the end of the warm-up; the versions of the contestant's libraries."""
        return self._answer()["versions"]

    def measure(self, seconds: float) -> dict[str, Any]:
        """Trains for about so many seconds: images, seconds, and peak_mib, the process' highest resident memory."""
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        return self._answer()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_) -> None:
        self._process.terminate()
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        if line := self._process.stdout.readline():
            return json.loads(line)
        end = self._process.stderr.read().strip().splitlines()[-8:]
        raise WorkerError(f"{self.name} ended:\n" + "\n".join(end))
