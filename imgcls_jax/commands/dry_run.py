"""Shows what a command would train: the runs, how far they are, their parameters and their time."""

import dataclasses
import json
import logging
import multiprocessing
import os
import re
import sys
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path

from ml_collections import ConfigDict
from tqdm import tqdm

from imgcls_jax import api, backend, console
from imgcls_jax.commands import study
from imgcls_jax.config.options import flat_options
from imgcls_jax.errors import RunError, UserError
from imgcls_jax.reporting import formats
from imgcls_jax.reporting.plain_tables import markdown_row, markdown_table
from imgcls_jax.run import resuming
from imgcls_jax.run.folder import METRICS, RunFolder, training_command
from imgcls_jax.training import checks, profiling
from imgcls_jax.training.profiling import Estimate

# Options, of a run or of one of its phases, that do not change how long an epoch takes.
TIMELESS = re.compile(
    r"^(seed|name)$"
    r"|(^|\.)data\.(split_seed|cache)$"
    r"|(^|\.)train\.(epochs|monitor|early_stopping|label_smoothing)$"
    r"|(^|\.)optimizer\.(learning_rate|momentum|beta1|beta2|eps)$"
    r"|(^|\.)schedule\.\w+$"
)
HEAD = ("Run", "State", "Parameters", "Trainable", "Epochs", "Time left")


@dataclasses.dataclass(frozen=True)
class Row:
    """A run in the table."""

    name: str
    state: str = "cannot start"
    parameters: int | None = None
    trainable: int | None = None
    epochs: int | None = None
    seconds: float = 0.0

    def cells(self) -> tuple[str, ...]:
        counts = []
        for count in (self.parameters, self.trainable, self.epochs):
            counts.append("" if count is None else f"{count:,}")
        time_left = formats.duration(self.seconds) if self.seconds else ""
        return (self.name, self.state, *counts, time_left)


def show(config: ConfigDict, workdir: Path) -> None:
    """Prints the runs of a config, a study or an ensemble, and about how long the rest would take.

    Times are upper bounds. They are extrapolated from a few steps, taken in a process of its own
    for each kind of run; runs that do not differ in what a step's time depends on are measured
    once. A run's line is printed as soon as it is known. Weights and runs that are missing are
    named: without published weights a run's time is known all the same, without another run it is
    not. Nothing is written into the runs' folders.
    """
    logging.getLogger("imgcls_jax").setLevel(logging.WARNING)  # the table says it all
    if "rows" in config or "members" in config:
        runs = study.plan(config, workdir)
    else:
        runs = [study.Planned("", config, workdir, {})]
    rows: list[Row] = []
    problems: list[str] = []
    missing_weights: set[str] = set()
    console.say(markdown_table(HEAD, (), figures=range(2, len(HEAD))).rstrip("\n"))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, max_tasks_per_child=1) as pool:
        inspector = _Inspector(runs, pool)
        for run in tqdm(runs, desc="a few steps of each", unit="run", leave=False, disable=None):
            try:
                row, weights = inspector.inspect(run)
                missing_weights.update(weights)
            except UserError as error:
                row = Row(run.name)
                problems.append(f"{run.name}: {error}")
            rows.append(row)
            tqdm.write(markdown_row(row.cells()), end="")
            sys.stdout.flush()
    if missing_weights:
        problems.append(f"To be fetched first: {', '.join(sorted(missing_weights))}.")
    console.say("", *problems)
    console.say(_total(rows, fetches=bool(missing_weights)))


def _total(rows: Sequence[Row], *, fetches: bool) -> str:
    seconds = sum(row.seconds for row in rows)
    blocked = sum(row.parameters is None for row in rows)
    if blocked == len(rows):
        return "No run can start, so their time is not known; nothing was trained."
    left_out = []
    if blocked:
        left_out.append(f"{blocked} of {len(rows)} runs")
    if fetches:
        left_out.append("fetching the weights")
    without = f", without {' and '.join(left_out)}" if left_out else ""
    return (
        f"{formats.duration(seconds)} in all at this machine's present speed{without}; "
        "nothing was trained."
    )


class _Inspector:
    """Looks at planned runs, and measures each kind of them once."""

    def __init__(self, runs: Sequence[study.Planned], pool: Executor):
        self._planned_folders = {str(run.folder) for run in runs}
        self._pool = pool
        self._estimates: dict[str, Estimate] = {}

    def inspect(self, run: study.Planned) -> tuple[Row, list[str]]:
        """Returns the run's row and the published weights that it needs and that are not here.

        Raises UserError if it cannot start.
        """
        checks.check(run.config)
        missing = _missing(run.config)
        for path in missing:
            self._require_published(path)
        folder = RunFolder(run.folder)
        if resuming.finished(api.check_config(run.config), folder):
            return _finished_row(run), []
        estimate = self._estimate(run.config)
        epochs = sum(profiling.epochs_of(run.config))
        done = len(folder.history) if (folder.path / METRICS).exists() else 0
        row = Row(
            run.name,
            state=f"{done} epochs done" if done else "new",
            parameters=estimate.parameters,
            trainable=estimate.trainable,
            epochs=epochs,
            seconds=estimate.seconds(run.config) * (1 - done / epochs),
        )
        return row, missing

    def _require_published(self, path: str) -> None:
        """Raises RunError if what is missing is no published weights but another run."""
        from imgcls_jax import pretrained

        if path in self._planned_folders:
            raise RunError(
                f"it starts from {path}, which is trained before it: how long it takes is not "
                "known yet."
            )
        if not pretrained.from_catalog(path):
            raise RunError(f"it needs {path}, which is not there.{training_command(path)}")

    def _estimate(self, config: ConfigDict) -> Estimate:
        kind = _kind(config)
        if kind not in self._estimates:
            self._estimates[kind] = self._pool.submit(_estimate, config).result()
        return self._estimates[kind]


def _missing(config: ConfigDict) -> list[str]:
    """Returns the weights, runs and teacher that the config names and that are not here."""
    from imgcls_jax import pretrained

    missing = pretrained.missing(config)
    objective = config.get("objective") or {}
    teacher = objective.get("teacher")
    if teacher and not os.path.exists(teacher):
        missing.append(teacher)
    return missing


def _finished_row(run: study.Planned) -> Row:
    test = RunFolder(run.folder).test
    return Row(
        run.name,
        state="finished",
        parameters=test["parameters"],
        trainable=test.get("trainable", test["parameters"]),
        epochs=test["epochs"],
    )


def _kind(config: ConfigDict) -> str:
    """Returns what the time of a step and of an epoch depends on, as a key."""
    timed = {
        path: value for path, value in flat_options(config).items() if not TIMELESS.search(path)
    }
    return json.dumps(timed, sort_keys=True, default=str)


def _estimate(config: ConfigDict) -> Estimate:
    """Measures a few steps; runs in a process of its own."""
    from imgcls_jax import data, pretrained

    console.set_up()
    logging.getLogger("imgcls_jax").setLevel(logging.WARNING)
    config = pretrained.resolve(config)
    backend.configure(cpu_devices=config.train.cpu_devices)
    return profiling.estimate(config, data.load(config.data))
