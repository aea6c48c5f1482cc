"""Shows what a command would train: the runs, how far they are, their parameters and their time."""

import contextlib
import dataclasses
import json
import logging
import multiprocessing
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path

import jax
from ml_collections import ConfigDict
from tqdm import tqdm

from imgcls_jax import api, backend, console
from imgcls_jax.commands import search, study
from imgcls_jax.commands.trainer import Planned
from imgcls_jax.config.options import flat_options
from imgcls_jax.errors import RunError, UserError
from imgcls_jax.reporting import formats
from imgcls_jax.reporting.plain_tables import markdown_row, markdown_table
from imgcls_jax.run import resuming
from imgcls_jax.run.claim import is_claimed
from imgcls_jax.run.folder import METRICS, RunFolder, training_command
from imgcls_jax.training import checks, estimates
from imgcls_jax.training.estimates import Estimate

# Options, of a run or of one of its phases, that do not change how long an epoch takes.
TIMELESS = re.compile(
    r"^(seed|name)$"
    r"|^data\.(fold|split_seed|cache)$"
    r"|^pretrained\.cache$"
    r"|^adapt\.lora\.alpha$"
    r"|^objective\.(temperature|weight)$"
    r"|(^|\.)train\.(epochs|monitor|early_stopping|label_smoothing|tracker)$"
    r"|(^|\.)train\.(class_weights|focal_gamma|logit_adjustment|balanced_sampling)$"
    r"|(^|\.)optimizer\.(?!name$)\w+$"
    r"|(^|\.)schedule\.\w+$"
)
MOST_MEASURED = 5  # kinds of a search's trials; the time of the others is the mean of these
CHOSEN_LATER = (
    "Optuna chooses a trial's options when its turn comes: those that have not begun are drawn by "
    "chance here."
)
CANNOT_START = "cannot start"
HEAD = ("Run", "State", "Parameters", "Trainable", "Epochs", "Time left")
_importing = 0.0  # seconds that the imports of a measuring process took


@dataclasses.dataclass(frozen=True)
class Row:
    """A run in the table."""

    name: str
    state: str = CANNOT_START
    parameters: int | None = None
    trainable: int | None = None
    epochs: int | None = None
    seconds: float = 0.0

    def cells(self) -> tuple[str, ...]:
        counts = [_cell(count) for count in (self.parameters, self.trainable, self.epochs)]
        time_left = ""
        if self.seconds:
            time_left = formats.duration(self.seconds)
        return (self.name, self.state, *counts, time_left)


def _cell(count: int | None) -> str:
    if count is None:
        return ""
    return f"{count:,}"


def show(config: ConfigDict, workdir: Path) -> None:
    """Prints the runs of a config, a study or an ensemble, and about how long the rest would take.

    Times are extrapolated from a few steps, taken in another process. They include start, validation,
    test and report; a run that stops early takes less. Runs that do not differ in what a step's time
    depends on are measured once. A run's line is printed as soon as it is known. Weights and runs
    that are missing are named: without published weights a run's time is known all the same, without
    another run it is not. Nothing is written into the runs' folders.
    """
    most_measured = None
    if config.get("search"):
        trials = search.Search(config, workdir)
        runs = [*study.needed(config), *trials.preview()]
        most_measured = MOST_MEASURED
    elif "rows" in config or "members" in config:
        runs = study.plan(config, workdir)
    else:
        runs = [Planned("", config, workdir, {})]
    with _quiet(), contextlib.ExitStack() as pools:
        _show(runs, _Inspector(runs, pools, most_measured=most_measured))
    if config.get("sampler") == "optuna" and config.get("search"):
        console.say(CHOSEN_LATER)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the package from logging anything but warnings meanwhile: the table says it all."""
    log = logging.getLogger("imgcls_jax")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(level)


def _show(runs: Sequence[Planned], inspector: "_Inspector") -> None:
    rows: list[Row] = []
    problems: list[str] = []
    missing_weights: set[str] = set()
    console.say(markdown_table(HEAD, (), figures=range(2, len(HEAD))).rstrip("\n"))
    for run in tqdm(runs, desc="a few steps of each", unit="run", leave=False, disable=None):
        try:
            row, weights = inspector.inspect(run)
            missing_weights.update(weights)
        except UserError as error:
            row = Row(run.title)
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
    blocked = sum(row.state == CANNOT_START for row in rows)
    if blocked == len(rows):
        return "No run can start, so their time is not known; nothing was trained."
    left_out = []
    if blocked:
        left_out.append(f"{blocked} of {len(rows)} runs")
    if fetches:
        left_out.append("fetching the weights")
    without = ""
    if left_out:
        without = f", without {' and '.join(left_out)}"
    return (
        f"{formats.duration(seconds)} in all if this machine does nothing else{without}; "
        "nothing was trained."
    )


class _Inspector:
    """Looks at planned runs, and measures each kind of them once."""

    def __init__(
        self,
        runs: Sequence[Planned],
        pools: contextlib.ExitStack,
        *,
        most_measured: int | None = None,
    ):
        """most_measured: kinds of runs; the time of the others is the mean of these."""
        self._most_measured = most_measured
        self._planned_folders = {str(run.folder) for run in runs}
        self._open_pools = pools
        self._pools: dict[int, Executor] = {}
        self._estimates: dict[str, Estimate] = {}

    def inspect(self, run: Planned) -> tuple[Row, list[str]]:
        """Returns the run's row and the published weights that it needs and that are not here.

        Raises UserError if it cannot start.
        """
        checks.check(run.config)
        missing = _missing(run.config)
        for path in missing:
            self._require_published(path)
        folder = RunFolder(run.folder)
        config = api.check_config(run.config)
        if resuming.finished(config, folder):
            return _finished_row(run), []
        estimate = self._estimate(config)
        epochs = sum(estimates.epochs_of(config))
        done = 0
        state = "new"
        if (folder.path / METRICS).exists():
            done = len(folder.history)
        if done:
            state = f"{done} epochs done"
        if is_claimed(folder):
            state += ", in training"
        row = Row(
            run.title,
            state=state,
            epochs=epochs,
            seconds=estimate.seconds(config, done=done),
        )
        if _kind(config) in self._estimates:
            row = dataclasses.replace(
                row, parameters=estimate.parameters, trainable=estimate.trainable
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
        if kind not in self._estimates and len(self._estimates) == self._most_measured:
            return estimates.mean(list(self._estimates.values()))
        if kind not in self._estimates:
            pool = self._pool(config.train.cpu_devices)
            self._estimates[kind] = pool.submit(_estimate, config).result()
        return self._estimates[kind]

    def _pool(self, cpu_devices: int) -> Executor:
        """Returns a process: there is one for each number of devices, which cannot be changed."""
        if cpu_devices not in self._pools:
            context = multiprocessing.get_context("spawn")
            pool = ProcessPoolExecutor(1, context, initializer=_begin_measuring)
            self._pools[cpu_devices] = self._open_pools.enter_context(pool)
        return self._pools[cpu_devices]


def _missing(config: ConfigDict) -> list[str]:
    """Returns the weights, runs and teacher that the config names and that are not here."""
    from imgcls_jax import pretrained

    missing = pretrained.missing(config)
    objective = config.get("objective") or {}
    teacher = objective.get("teacher")
    if teacher and not os.path.exists(os.path.expanduser(teacher)):
        missing.append(teacher)
    return missing


def _finished_row(run: Planned) -> Row:
    test = RunFolder(run.folder).test
    return Row(
        run.title,
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


def _begin_measuring() -> None:
    """Begins a measuring process, which has imported this package by now."""
    global _importing
    _importing = time.process_time()
    console.set_up()
    logging.getLogger("imgcls_jax").setLevel(logging.WARNING)


def _estimate(config: ConfigDict) -> Estimate:
    """Measures a few steps; runs in a measuring process."""
    from imgcls_jax import data, pretrained

    config = pretrained.resolve(config)
    backend.configure(cpu_devices=config.train.cpu_devices)
    jax.clear_caches()  # of the runs that were measured before
    started = time.perf_counter()
    splits = data.load(config.data, quick=config.quick)
    loading = time.perf_counter() - started
    return estimates.estimate(config, splits, importing=_importing, loading=loading)
