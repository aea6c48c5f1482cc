"""What there is on Windows and macOS: without fcntl, resource, array_record and TensorFlow."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from imgcls_jax.run.folder import EVENTS, RunFolder

ROOT = Path(__file__).parents[1]
# filelock has another primitive on Windows. Here it needs fcntl, so it is imported before.
WITHOUT = """
import os, runpy, signal, sys

import filelock

MISSING = {"fcntl", "resource", "array_record", "tensorflow"}
FLAGS = ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC")


class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


for name in MISSING:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Missing())
for flag in FLAGS:
    delattr(os, flag)
sys.argv = sys.argv[1:]
try:
    if sys.argv[0] == "imgcls":
        runpy.run_module("imgcls_jax", run_name="__main__")
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    assert not MISSING & set(sys.modules)
"""


def without(*arguments: str) -> str:
    """Runs a command in a process that has none of those modules. Returns what it prints."""
    command = [sys.executable, "-c", WITHOUT, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def quick_start(tmp_path_factory) -> RunFolder:
    run = RunFolder(tmp_path_factory.mktemp("runs") / "quickstart")
    small = {"train.epochs": 1, "model.filters": "(4,4,4)", "data.train_size": 200}
    changes = [f"--config.{name}={value}" for name, value in small.items()]
    printed = without(
        "launch.py", "--config=configs/quickstart.py", f"--workdir={run.path}", *changes
    )
    assert f"report: {run.path / 'report.html'}" in printed
    return run


def test_the_quick_start_trains_tests_and_reports(quick_start):
    assert len(quick_start.history) == 1 and quick_start.test["accuracy"] > 0
    assert (quick_start.path / "report.html").exists()
    assert len(list(quick_start.path.glob(f"{EVENTS}*"))) == 2  # curves, pictures
    assert quick_start.test["peak_memory"] > 1e8


def test_the_model_predicts(quick_start, tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    assert '"class"' in without("imgcls", "predict", str(quick_start.path), str(tmp_path / "a.png"))


def test_the_report_is_written_again(quick_start):
    (quick_start.path / "report.html").unlink()
    without("imgcls", "report", str(quick_start.path))
    assert (quick_start.path / "report.html").exists()
