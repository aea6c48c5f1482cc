"""A study as users run it: rows and seeds in turn, one table at the end, nothing done twice."""

import ast
import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from limits import HANGS

from imgcls_jax.commands import study as studies
from imgcls_jax.commands.trainer import Outcome
from imgcls_jax.errors import ConfigError

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
    config.update({"grid": (), "budget": 0.0})
    config.rows = ConfigDict({
        "narrow": {"config": row(8), "reported": {"accuracy": 91.5}},
        "wide": {"config": row(32)},
    })
    config.needs = ConfigDict({"first": row(16)})
    return config
"""


def command(folder, *options):
    return [
        sys.executable,
        str(ROOT / "launch.py"),
        "--config",
        str(folder / "widths.py"),
        *options,
    ]


def options(folder):
    return {
        "cwd": folder,
        "env": os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": ""},
        "text": True,
    }


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The folder of a study that was killed in its second run and then finished, and its log."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "widths.py").write_text(STUDY)
    (folder / "configs").symlink_to(ROOT / "configs")
    process = subprocess.Popen(
        command(folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        **options(folder),
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
    assert "Two widths" in table and "| narrow | 2 |" in table and "91.50" in table
    assert re.search(r"\| narrow \| 2 \| \d+\.\d\d \(\d+\.\d\d–\d+\.\d\d\) \|", table)
    pictures = ("table.png", "cost.png", "curves.png")
    assert all((runs / name).stat().st_size > 1000 for name in pictures)
    assert (runs / "table.tex").exists()
    with open(runs / "table.csv") as file:
        narrow, wide = csv.DictReader(file)
    for row in (narrow, wide):
        assert (
            min(
                float(row[key])
                for key in ("multiply_adds", "latency", "images_per_second", "peak_memory")
            )
            > 0
        )
    assert float(narrow["multiply_adds"]) < float(wide["multiply_adds"])
    assert "run 5 of 5, wide-seed1" in printed and "| wide | 2 |" in printed


def test_what_the_study_needs_is_trained_before_its_rows(study):
    folder, printed = study
    assert (folder / "runs" / "first" / "report.html").exists()
    assert printed.index("run 1 of 5, first, which it needs") < printed.index(
        "run 2 of 5, narrow-seed0"
    )


def test_seeds_are_overridden_and_finished_runs_stay(study):
    folder, _ = study
    run = subprocess.run(
        command(folder, "--config.seeds=0,"), capture_output=True, **options(folder)
    )
    assert run.returncode == 0
    assert "run 3 of 3, wide-seed0" in run.stderr
    assert "is finished" in run.stderr
    assert "(" not in (folder / "runs" / "widths" / "table.md").read_text().split("\n")[4]


def test_a_dry_run_lists_what_would_be_trained(study):
    folder, _ = study
    before = sorted((folder / "runs").rglob("*"))
    run = subprocess.run(
        command(folder, "--dry_run", "--config.seeds=0,7"), capture_output=True, **options(folder)
    )
    assert run.returncode == 0, run.stderr
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in run.stdout.splitlines()
        if "|" in line
    ]
    states = {row[0]: row[1] for row in cells[2:]}
    assert states == {
        "first": "finished",
        **{f"{row}-seed0": "finished" for row in ("narrow", "wide")},
        **{f"{row}-seed7": "new" for row in ("narrow", "wide")},
    }
    counts = {row[0]: int(row[2].replace(",", "")) for row in cells[2:]}
    assert (
        counts["narrow-seed7"] == counts["narrow-seed0"] < counts["wide-seed0"]
    )  # measured and from the run
    assert sorted((folder / "runs").rglob("*")) == before and "nothing was trained" in run.stdout


def study_config(grid):
    scope = {}
    exec(STUDY, scope)
    config = scope["get_config"]()
    config.grid = grid
    return config


def test_a_grid_makes_a_row_of_each_combination(tmp_path):
    grid = (("optimizer.learning_rate", (0.001, 0.002)), ("train.batch_size", (16, 32)))
    first, *runs = studies.plan(study_config(grid), tmp_path)
    assert (first.name, first.row, first.folder) == ("first", "", Path("runs/first"))
    assert len(runs) == 2 * 4 * 2
    run = next(run for run in runs if run.name == "narrow,learning_rate=0.002,batch_size=16-seed1")
    assert run.row == "narrow,learning_rate=0.002,batch_size=16"
    assert run.reported == {"accuracy": 91.5}
    settings = (
        run.config.optimizer.learning_rate,
        run.config.train.batch_size,
        run.config.seed,
        run.config.model.width,
    )
    assert settings == (0.002, 16, 1, 8)


def test_a_row_with_folds_is_trained_on_each(tmp_path):
    first, *runs = studies.plan(study_config((("data.folds", (2,)),)), tmp_path)
    assert (first.name, first.config.data.folds) == ("first", 0)
    repetitions = {}
    for run in runs:
        if run.row == "narrow,folds=2":
            repetitions[run.name] = (run.config.seed, run.config.data.fold)
    assert repetitions == {
        "narrow,folds=2-seed0-fold0": (0, 0),
        "narrow,folds=2-seed0-fold1": (0, 1),
        "narrow,folds=2-seed1-fold0": (1, 0),
        "narrow,folds=2-seed1-fold1": (1, 1),
    }


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ("(('optimizer.learning_rat', (.1,)),)", "Did you mean 'optimizer.learning_rate'?"),
        ("(('train.epochs', ('many',)),)", "A value of config.grid is of the wrong type"),
        ("('train.epochs', (1, 2))", "give pairs of an option and its values"),
        ("(('train.batch_size', (16, 0)),)", "rows.narrow.config.train.batch_size is 0: give 1"),
        ("(('seed', (5, 6)),)", "config.grid has 'seed': give config.seeds instead"),
        ("(('data.fold', (0, 1)),)", "config.grid has 'data.fold': give data.folds instead"),
        (
            "(('data.transform', ('flip|random_crop(4)', 'flip|random_crop( 4)')),)",
            "Two runs would be called narrow,transform=fliprandom_crop4-seed0",
        ),
        (f"(('data.transform', ('{'flip|' * 50}flip',)),)", "characters, more than 200"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(tmp_path, grid, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        studies.plan(study_config(ast.literal_eval(grid)), tmp_path)


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("trials", "the study has no config.search"),
        ("seeds", "each row has seeds of its own"),
        ("rows.wide.config.seed", "the study sets it in each run"),
        ("rows.wide.config.train.batch_size", "the study sets it in each run"),
        ("rows.wide.config.train.epochs", ""),
    ],
)
def test_options_that_the_study_does_not_use_are_named(option, reason, caplog):
    caplog.set_level("INFO", "imgcls_jax")
    config = study_config((("train.batch_size", (16, 32)),))
    for row in config.rows.values():
        row.seeds = (3,)
    studies.log_unread(config, [option])
    named = f"config.{option} was given and has no effect: {reason}."
    assert [record.getMessage() for record in caplog.records] == [named] * bool(reason)


def test_a_budget_ends_a_study(tmp_path):
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "widths.py").write_text(STUDY.replace("epochs=3", "epochs=300_000"))
    budget = f"--config.budget={5 / 3600}"
    run = subprocess.run(
        command(tmp_path, budget), capture_output=True, timeout=HANGS, **options(tmp_path)
    )
    assert run.returncode == 0, run.stderr
    assert "hours is spent: 5 of 5 runs are not finished: first, narrow-seed0" in run.stderr
    assert not (tmp_path / "runs" / "widths" / "table.md").exists()


def test_the_table_has_the_seeds_that_are_finished(tmp_path):
    config = study_config(())
    config.needs, config.seeds = {}, (0, 1)
    runs = studies.plan(config, tmp_path)

    def compared(*outcomes):
        by_folder = {run.folder: outcome for run, outcome in zip(runs, outcomes, strict=True)}
        rows = studies.compared(runs, by_folder)
        return {label: [run.name for run in row] for label, row in rows.items()}

    done, late, failed = Outcome.FINISHED, Outcome.OUT_OF_TIME, Outcome.FAILED
    narrow = ["narrow-seed0", "narrow-seed1"]
    assert compared(done, done, late, late) == {"narrow": narrow}
    assert compared(done, done, late, done) == {"narrow": narrow, "wide": ["wide-seed1"]}
    assert compared(done, failed, done, Outcome.CLAIMED) == {"wide": ["wide-seed0"]}
    for run in runs:
        run.config.data.folds = 2  # other test images in each run
    assert compared(done, done, done, late) == {"narrow": narrow}


def test_what_is_finished_of_a_study_is_published(study, tmp_path):
    shutil.copytree(study[0] / "runs", tmp_path / "runs")
    published = tmp_path / "results" / "widths"
    runs = sorted(path.parent for path in tmp_path.glob("runs/widths/*/test.json"))

    def publish():
        arguments = [sys.executable, str(ROOT / "launch.py"), "--mode", "publish", "runs/widths"]
        return subprocess.run(arguments, capture_output=True, **options(tmp_path))

    done = publish()
    assert done.returncode == 0 and "Left out" not in done.stderr, done.stderr
    kept = {path.name for path in published.iterdir()} - {".lock"}
    tables = {"table.md", "table.csv", "table.tex", "table.png"}
    assert kept == tables | {run.name for run in runs}
    text = (published / "table.md").read_text()
    assert "(table.png)" in text and "cost.png" not in text and "curves.png" not in text
    (runs[-1] / "report.html").unlink()
    done = publish()
    assert done.returncode == 0
    assert "Left out, since not finished: runs/widths/wide-seed1. " in done.stderr
    earlier = "Published earlier, and not of runs/widths's finished runs: "
    assert f"{earlier}results/widths/wide-seed1. " in done.stderr
    shutil.rmtree(published)
    assert earlier not in publish().stderr
    assert {path.name for path in published.iterdir() if path.is_dir()} == {
        run.name for run in runs[:-1]
    }
    for run in runs[:-1]:
        (run / "report.html").unlink()
    done = publish()
    assert done.returncode == 2 and "Not finished: runs/widths/narrow-seed0, " in done.stderr


def test_a_row_may_have_seeds_of_its_own(tmp_path):
    config = study_config(())
    config.needs, config.seeds = {}, (0, 1)
    with config.unlocked():
        config.rows.wide.seeds = (3,)
    names = [run.name for run in studies.plan(config, tmp_path)]
    assert names == ["narrow-seed0", "narrow-seed1", "wide-seed3"]
    config.rows.wide.seeds = (3, 3)
    with pytest.raises(ConfigError, match="rows.wide.seeds is .*: give each seed once"):
        studies.plan(config, tmp_path)
