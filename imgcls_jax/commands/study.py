"""Studies: a named list of configs, each trained with several seeds, that end in one table."""

import contextlib
import dataclasses
import enum
import itertools
import logging
import math
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

from ml_collections import ConfigDict

from imgcls_jax import api, backend, console
from imgcls_jax.commands import ensemble as ensembles
from imgcls_jax.commands import overrides
from imgcls_jax.config import trial
from imgcls_jax.config.options import flat_options
from imgcls_jax.errors import ConfigError, RunError, UserError
from imgcls_jax.run import resuming
from imgcls_jax.run.folder import RunFolder
from imgcls_jax.training.interrupt import Interrupted

log = logging.getLogger(__name__)

PATIENCE = 60.0  # seconds that a run may take to end once its study is gone
MOST_JOIN = 3600.0  # seconds between two looks at a run's process


@dataclasses.dataclass(frozen=True)
class Planned:
    """A run that a study consists of, or needs first."""

    row: str  # its row's label, "" for a run that is needed first
    config: ConfigDict
    folder: Path
    reported: Mapping[str, float]
    changed: tuple[str, ...] = ()  # paths of options that the command line, or a grid, sets

    @property
    def name(self) -> str:
        return self.folder.name


class Outcome(enum.Enum):
    """How a study's attempt to train a run ended."""

    FINISHED = "finished"
    FAILED = "failed"
    OUT_OF_TIME = "out of time"


def plan(config: ConfigDict, workdir: Path, changed: Iterable[str] = ()) -> list[Planned]:
    """Returns the runs of a study or an ensemble, in the order in which they are trained.

    First those that are needed or members, as runs/NAME; then each row with each seed, its own or
    the study's, as `workdir`/ROW-seedN. A row with `data.folds` is trained on each fold, as
    ROW-seedN-foldM. With a `grid`, pairs of an option's path and its values, there is a row for each
    combination of them. With `quick` all of them are trials, and the runs needed are
    runs/NAME-trial. Raises ConfigError for what cannot be trained.
    """
    from imgcls_jax.reporting import compare
    from imgcls_jax.training import checks

    if "rows" in config:
        checks.check_study(config, figures=compare.REPORTED)
    else:
        checks.check_ensemble(config)
    changed = tuple(changed)
    runs = []
    for section in ("needs", "members"):
        for name, run_config in (config.get(section) or {}).items():
            run_changes = _below(f"{section}.{name}.", changed)
            folder = Path("runs", trial.folder_name(name, config))
            runs.append(Planned("", run_config, folder, {}, run_changes))
    for label, row in (config.get("rows") or {}).items():
        row_changes = _below(f"rows.{label}.config.", changed)
        for suffix, options in _combinations(config.get("grid", ())):
            row_config = row.config.copy_and_resolve_references()
            overrides.apply(row_config, options, source="config.grid")
            seeds = row.get("seeds", config.seeds)
            for end, repetition in _repetitions(seeds, row_config.data.folds):
                run_config = row_config.copy_and_resolve_references()
                overrides.apply(run_config, repetition, source="config.seeds")
                run = Planned(
                    label + suffix,
                    run_config,
                    workdir / f"{label}{suffix}-{end}",
                    row.get("reported", ConfigDict()).to_dict(),
                    (*row_changes, *options),
                )
                runs.append(run)
    if config.get("quick"):
        return [_as_trial(run, config) for run in runs]
    return runs


def _repetitions(seeds: Sequence[int], folds: int) -> Iterator[tuple[str, dict[str, int]]]:
    """Yields what each training of a row adds to its folder's name, and its options."""
    for seed in seeds:
        if not folds:
            yield f"seed{seed}", {"seed": seed}
        for fold in range(folds):
            yield f"seed{seed}-fold{fold}", {"seed": seed, "data.fold": fold}


def _as_trial(run: Planned, study: ConfigDict) -> Planned:
    """Returns a trial of the run, which starts from trials of the runs that the study needs."""
    run_config = run.config.copy_and_resolve_references()
    run_config.quick = study.quick
    needed = {f"runs/{name}" for name in study.get("needs") or {}}
    for path, value in flat_options(run_config).items():
        if isinstance(value, str) and value in needed:
            overrides.apply(run_config, {path: f"{value}-trial"}, source="config.quick")
    return dataclasses.replace(run, config=run_config)


def _below(prefix: str, paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(path.removeprefix(prefix) for path in paths if path.startswith(prefix))


def _combinations(
    grid: Sequence[tuple[str, Sequence[Any]]],
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields, for each combination of a grid, what it adds to a row's label, and its options."""
    for pair in grid:
        is_pair = len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], Sequence)
        if not is_pair:
            raise ConfigError(
                f"config.grid is {grid!r}: give pairs of an option and its values, as in "
                "--config.grid=\"(('optimizer.learning_rate', (.1, .01)),)\"."
            )
    paths = [path for path, _ in grid]
    for values in itertools.product(*(values for _, values in grid)):
        options = dict(zip(paths, values, strict=True))
        suffix = ""
        for path, value in options.items():
            option = path.split(".")[-1]
            text = re.sub(r"[^\w.,+-]", "", str(value))
            suffix += f",{option}={text}"
        yield suffix, options


def train(config: ConfigDict, workdir: Path, changed: Iterable[str] = ()) -> None:
    """Trains the runs of the study's plan in turn, and writes their comparison into `workdir`.

    Each run is a process of its own: what is finished is not repeated, what was interrupted goes
    on. If runs fail the others are trained all the same; then the table has the rows that are
    whole, and RunError names the runs that failed. After `budget` hours, if it is not 0, the
    current run is saved and stopped.
    """
    runs = plan(config, workdir, changed)
    study = RunFolder(workdir)
    with study.locked():
        _train_and_compare(config, study, runs)


def _train_and_compare(config: ConfigDict, study: RunFolder, runs: Sequence[Planned]) -> None:
    outcomes = _train_in_turn(runs, study, hours=config.get("budget", 0.0))
    _compare(config, study.path, runs, outcomes)
    late = [run.name for run in runs if outcomes[run.folder] == Outcome.OUT_OF_TIME]
    failed = [run.name for run in runs if outcomes[run.folder] == Outcome.FAILED]
    if late:
        log.info(
            "The budget of %g hours is spent: %d of %d runs are not finished: %s. "
            "The same command goes on.",
            config.budget,
            len(late),
            len(runs),
            ", ".join(late),
        )
    if failed:
        raise RunError(
            f"{len(failed)} of {len(runs)} runs failed, with the errors above: "
            f"{', '.join(failed)}. The table has the other rows; the same command tries these "
            "again."
        )


def _train_in_turn(
    runs: Sequence[Planned], study: RunFolder, *, hours: float = 0.0
) -> dict[Path, Outcome]:
    """Trains the runs; returns their outcomes by their folders. hours: a limit; 0 for none.

    Raises RunError if a run failed that the others need.
    """
    deadline = time.monotonic() + 3600 * hours if hours else math.inf
    outcomes = {}
    for number, run in enumerate(runs, 1):
        study.check_there()  # If the study was moved, its runs would begin again in the old place.
        needed = "" if run.row else ", which it needs"
        log.info("\n%s: run %d of %d, %s%s", study.name, number, len(runs), run.name, needed)
        outcome = _train_run(run, deadline)
        if outcome == Outcome.FAILED and not run.row:
            raise RunError(
                f"{study.name} needs the run {run.name}, which failed with the error above."
            )
        outcomes[run.folder] = outcome
    return outcomes


def _compare(
    config: ConfigDict,
    workdir: Path,
    runs: Sequence[Planned],
    outcomes: Mapping[Path, Outcome],
) -> None:
    """Writes the comparison of the rows of which every run is finished."""
    from imgcls_jax.evaluation import cost
    from imgcls_jax.reporting import compare
    from imgcls_jax.reporting.compare_rows import Group

    rows: dict[str, list[Planned]] = {}
    for run in runs:
        if run.row:
            rows.setdefault(run.row, []).append(run)
    groups = []
    for label, row in rows.items():
        if all(outcomes[run.folder] == Outcome.FINISHED for run in row):
            folders = [RunFolder(run.folder) for run in row]
            groups.append(Group(label, row[0].reported, folders))
    if groups:
        backend.configure()
        text = compare.write(groups, workdir, title=_title(config), meter=cost.Meter())
        log.info("\n%s\n%s", text, workdir / "table.md")


def _title(config: ConfigDict) -> str:
    """Returns the title of the study's table."""
    if config.get("quick"):
        return f"{config.title}: {trial.description(config.quick)}"
    return config.title


def ensemble(config: ConfigDict, workdir: Path, changed: Iterable[str] = ()) -> None:
    """Trains the ensemble's members that are missing, as runs/NAME, and lets them vote."""
    from imgcls_jax.evaluation.ensemble import parse_weights

    members = plan(config, workdir, changed)
    parse_weights(config.weights, len(members))  # raises ConfigError before anything is trained
    _train_in_turn(members, RunFolder(workdir))
    folders = [str(run.folder) for run in members]
    ensembles.ensemble(folders, weights=config.weights, workdir=workdir)


def _train_run(run: Planned, deadline: float) -> Outcome:
    """Trains a run in a process of its own, since a backend is set up once a process.

    deadline: of time.monotonic(); a run that is not finished by then is saved and stopped. Raises
    Interrupted if a signal stopped it.
    """
    try:
        if resuming.finished(api.check_config(run.config), RunFolder(run.folder)):
            return Outcome.FINISHED
    except UserError as error:
        console.say(f"error: {error}", error=True)
        return Outcome.FAILED
    if time.monotonic() >= deadline:
        return Outcome.OUT_OF_TIME
    process = multiprocessing.get_context("spawn").Process(
        target=_run_process, args=(run,), name=run.name
    )
    process.start()
    with _forwarded_signals(process, run.name) as received:
        is_late = _wait(process, deadline)
    if received:
        raise Interrupted(received[-1])
    if is_late:
        return Outcome.OUT_OF_TIME
    exitcode = process.exitcode
    if exitcode == 0:
        return Outcome.FINISHED
    if exitcode is not None and exitcode < 0:
        log.error("%s was ended by %s.", run.folder, signal.Signals(-exitcode).name)
    return Outcome.FAILED


@contextlib.contextmanager
def _forwarded_signals(process: BaseProcess, name: str) -> Iterator[list[int]]:
    """Passes SIGTERM and SIGINT on to a run's process; yields the list of those that came."""
    received: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        stop = signal.Signals(number).name
        console.say(f"{stop}: the study stops as soon as {name} is saved.")
        received.append(number)
        with contextlib.suppress(ProcessLookupError):
            if process.pid is not None:
                os.kill(process.pid, number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(process: BaseProcess, deadline: float) -> bool:
    """Waits until the process ends; returns whether the deadline came first, which stops it."""
    while process.is_alive() and time.monotonic() < deadline:
        process.join(min(deadline - time.monotonic(), MOST_JOIN))
    if not process.is_alive():
        return False
    process.terminate()  # SIGTERM: it saves and stops
    process.join()
    return True


def _run_process(run: Planned) -> None:
    """The process of a run. Ctrl-C reaches it through the study alone; it ends with the study."""
    os.setpgrp()
    console.set_up()
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    try:
        # The process of a study that was just killed may still be saving the same run.
        api.train(run.config, run.folder, changed=run.changed, patience=PATIENCE)
    except UserError as error:
        console.say(f"error: {error}", error=True)
        sys.exit(2)
    except Interrupted as stop:
        sys.exit(stop.exit_status)


def _stop_with_parent() -> None:
    study = multiprocessing.parent_process()
    if study is not None:
        study.join()
    os.kill(os.getpid(), signal.SIGTERM)  # saves, then stops
