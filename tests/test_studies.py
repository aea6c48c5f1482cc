"""A study as users run it: rows and seeds in turn, one table at the end, nothing done twice."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STUDY = """
from ml_collections import ConfigDict
from configs import base

def row(width):
    config = base.get_config()
    config.data.source = config.data.name = "digits"
    config.model.name = "attention"
    config.model.width = width
    config.train.update(epochs=3, batch_size=32, eval_batch_size=64)
    return config

def get_config():
    config = ConfigDict({"name": "widths", "title": "Two widths", "seeds": (0, 1)})
    config.rows = ConfigDict({
        "narrow": {"config": row(8), "reported": {"accuracy": 91.5}},
        "wide": {"config": row(32)},
    })
    config.needs = ConfigDict({"first": row(16)})
    return config
"""


def command(folder, *options):
    return [sys.executable, str(ROOT / "launch.py"), "--config", str(folder / "widths.py"), *options]


def options(folder):
    return {"cwd": folder, "env": os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}, "text": True}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study that was killed in its second run and then run to its end; the first run's report as it then stood."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "widths.py").write_text(STUDY)
    (folder / "configs").symlink_to(ROOT / "configs")
    process = subprocess.Popen(
        command(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, **options(folder)
    )
    second = folder / "runs" / "widths" / "narrow-seed1" / "metrics.jsonl"
    while process.poll() is None and not second.exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    first = folder / "runs" / "widths" / "narrow-seed0" / "report.html"
    before = first.stat().st_mtime_ns
    run = subprocess.run(command(folder), capture_output=True, **options(folder))
    assert run.returncode == 0, run.stderr
    assert process.returncode == -signal.SIGKILL and first.stat().st_mtime_ns == before
    return folder, run.stderr


def test_every_row_has_its_seeds_and_the_table_stands_beside_them(study):
    folder, printed = study
    runs = folder / "runs" / "widths"
    assert sorted(path.name for path in runs.iterdir() if path.is_dir()) == [
        "narrow-seed0", "narrow-seed1", "wide-seed0", "wide-seed1",
    ]  # fmt: skip
    table = (runs / "table.md").read_text()
    assert "Two widths" in table and "| narrow | 2 |" in table and "91.50" in table and "±" in table
    assert (runs / "table.png").stat().st_size > 1000 and (runs / "table.csv").read_text().count("\n") == 3
    assert "run 4 of 4, wide with seed 1" in printed and "| wide | 2 |" in printed


def test_what_the_study_needs_is_trained_before_its_rows(study):
    folder, printed = study
    assert (folder / "runs" / "first" / "report.html").exists()
    assert printed.index("first of all first, which it needs") < printed.index("run 1 of 4")


def test_seeds_are_overridden_and_finished_runs_stay(study):
    folder, _ = study
    run = subprocess.run(command(folder, "--config.seeds=0,"), capture_output=True, **options(folder))
    assert run.returncode == 0 and "run 2 of 2" in run.stderr and "is finished" in run.stderr
    assert "±" not in (folder / "runs" / "widths" / "table.md").read_text().split("\n")[4]


def test_a_study_is_published_whole(study):
    folder, _ = study
    run = subprocess.run(
        [sys.executable, str(ROOT / "launch.py"), "--mode", "publish", "runs/widths"],
        capture_output=True,
        **options(folder),
    )
    assert run.returncode == 0, run.stderr
    assert {"table.md", "narrow-seed0", "wide-seed1"} <= {
        path.name for path in (folder / "results" / "widths").iterdir()
    }
    (folder / "runs" / "widths" / "wide-seed1" / "report.html").unlink()
    run = subprocess.run(
        [sys.executable, str(ROOT / "launch.py"), "--mode", "publish", "runs/widths"],
        capture_output=True,
        **options(folder),
    )
    assert run.returncode == 2 and "Not finished: runs/widths/wide-seed1" in run.stderr
