"""What there is on Windows and macOS: without fcntl, resource, array_record and TensorFlow."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from imgcls_jax.run.folder import EVENTS, RunFolder

ROOT = Path(__file__).parents[1]
# filelock and psutil do without on Windows. Here they need fcntl and resource, and come first.
WITHOUT = """
import importlib.machinery, os, sys

import filelock, psutil

MISSING = {"fcntl", "resource", "array_record", "tensorflow"}
FLAGS = ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC")
FINDERS = list(sys.meta_path)


class Installed:
    # Finds every other module.

    find_distributions = importlib.machinery.PathFinder.find_distributions

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in MISSING:
            return None
        specs = (finder.find_spec(name, path, target) for finder in FINDERS)
        return next(filter(None, specs), None)


for name in MISSING:
    sys.modules.pop(name, None)
sys.meta_path[:] = [Installed]
for flag in FLAGS:
    delattr(os, flag)

from imgcls_jax import __main__

for command in sys.argv[1:]:
    status = __main__.main(command.split())
    assert status == 0, command
assert not MISSING & set(sys.modules)
"""


@pytest.fixture(scope="module")
def quick_start(tmp_path_factory) -> RunFolder:
    """The quick start in miniature, then a prediction and the report again, in such a process."""
    folder = tmp_path_factory.mktemp("runs")
    run = RunFolder(folder / "quickstart")
    image = folder / "a.png"
    Image.new("L", (8, 8)).save(image)
    small = "--config.train.epochs=1 --config.model.filters=(4,4,4) --config.data.train_size=200"
    commands = [
        f"train configs/quickstart.py --workdir={run.path} {small}",
        f"predict {run.path} {image}",
        f"report {run.path}",
    ]
    command = [sys.executable, "-c", WITHOUT, *commands]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    run.printed = process.stdout
    return run


def test_the_quick_start_trains_tests_and_reports(quick_start):
    assert len(quick_start.history) == 1 and quick_start.test["accuracy"] > 0
    assert (quick_start.path / "report.html").exists()
    assert len(list(quick_start.path.glob(f"{EVENTS}*"))) == 2  # curves, pictures
    assert quick_start.test["peak_memory"] > 1e8


def test_the_model_predicts(quick_start):
    assert '"class"' in quick_start.printed
