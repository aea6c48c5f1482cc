"""Studies: a named list of configs, each trained with several seeds, that end in one table."""

import contextlib
import dataclasses
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
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from imgcls_jax import backend, console
from imgcls_jax.commands import ensemble as ensembles
from imgcls_jax.commands import train as training
from imgcls_jax.config.options import flat_options
from imgcls_jax.errors import ConfigError, RunError, UserError, did_you_mean
from imgcls_jax.run import resuming
from imgcls_jax.run.folder import RunFolder
from imgcls_jax.training.interrupt import Interrupted

log = logging.getLogger(__name__)

PATIENCE = 60.0  # seconds that a run may take to end once its study is gone


@dataclasses.dataclass(frozen=True)
class Planned:
    """A run that a study consists of, or needs first."""

    row: str  # its row's label, "" for what is needed first
    config: ConfigDict
    folder: Path
    reported: dict[str, float]
    given: tuple[str, ...] = ()  # paths of the options that the command line, or a grid, set

    @property
    def name(self) -> str:
        return self.folder.name


def plan(config: ConfigDict, workdir: Path, given: Iterable[str] = ()) -> list[Planned]:
    """The runs of a study or an ensemble in their order: those that it needs, as runs/NAME, then each row with each
    seed, its own or the study's, as `workdir`/ROW-seedN.

    With a `grid`, pairs of an option's path and its values, each row stands once for each combination of them. Raises
    ConfigError for what cannot be trained.
    """
    from imgcls_jax.reporting import compare
    from imgcls_jax.training import checks as options

    if "rows" in config:
        options.check_study(config, figures=compare.REPORTED)
    else:
        options.check_ensemble(config)
    runs = [
        Planned("", one, Path("runs", name), {}, _below(f"{section}.{name}.", given))
        for section in ("needs", "members")
        for name, one in (config.get(section) or {}).items()
    ]
    for label, row in (config.get("rows") or {}).items():
        for suffix, changes in _combinations(config.get("grid", ())):
            for seed in row.get("seeds", config.seeds):
                one = row.config.copy_and_resolve_references()
                _change(one, changes | {"seed": seed})
                folder = workdir / f"{label}{suffix}-seed{seed}"
                own = (*_below(f"rows.{label}.config.", given), *changes)
                runs.append(
                    Planned(
                        label + suffix,
                        one,
                        folder,
                        row.get("reported", ConfigDict()).to_dict(),
                        own,
                    )
                )
    return runs


def _below(prefix: str, paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(path.removeprefix(prefix) for path in paths if path.startswith(prefix))


def _combinations(
    grid: Sequence[tuple[str, Sequence[Any]]],
) -> Iterator[tuple[str, dict[str, Any]]]:
    """For each combination what it adds to a row's label, and its options."""
    if not all(
        len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], Sequence)
        for pair in grid
    ):
        raise ConfigError(
            f"config.grid is {grid!r}: give pairs of an option and its values, as in "
            "--config.grid=\"(('optimizer.learning_rate', (.1, .01)),)\"."
        )
    for values in itertools.product(*(values for _, values in grid)):
        options = dict(zip((path for path, _ in grid), values, strict=True))
        texts = {
            path.split(".")[-1]: re.sub(r"[^\w.,+-]", "", str(value))
            for path, value in options.items()
        }
        yield "".join(f",{option}={text}" for option, text in texts.items()), options


def _change(config: ConfigDict, options: Mapping[str, Any]) -> None:
    known = flat_options(config)
    for path in options:
        if path not in known:
            hint = did_you_mean(path, known)
            raise ConfigError(
                f"config.grid names {path!r}, which is no option of the row's config.{hint}"
            )
    try:
        config.update_from_flattened_dict(options)
    except TypeError as error:
        raise ConfigError(f"A value of config.grid is of the wrong type: {error}") from error


def train(config: ConfigDict, workdir: Path, given: Iterable[str] = ()) -> None:
    """Trains the runs of the study's plan in turn, and writes the comparison beside the run folders.

    Each run is a process of its own: what is finished is not repeated, what was interrupted goes on. Where runs fail
    the others are trained all the same; then the table has the rows that are whole, and RunError names the runs that
    failed. After `budget` hours, if it is not 0, the run under way is saved and stopped.
    """
    runs = plan(config, workdir, given)
    study = RunFolder(workdir)
    with study.locked():
        _train_all(config, study, runs)


def _train_all(config: ConfigDict, study: RunFolder, runs: Sequence[Planned]) -> None:
    done, failed, late = _train_in_turn(runs, study, hours=config.get("budget", 0.0))
    _compare(config, study.path, runs, done)
    if late:
        log.info(
            "The budget of %g hours is spent: %d of %d runs are not finished: %s. The same command goes on.",
            *(config.budget, len(late), len(runs), ", ".join(run.name for run in late)),
        )
    if failed:
        names = ", ".join(run.name for run in failed)
        raise RunError(
            f"{len(failed)} of {len(runs)} runs failed, with the errors above: {names}. The table has the other rows; "
            "the same command tries these again."
        )


def _train_in_turn(
    runs: Sequence[Planned], study: RunFolder, *, hours: float = 0.0
) -> tuple[list[Planned], list[Planned], list[Planned]]:
    """The runs that are finished, those that failed, and those for which the hours, if there is a limit, were too few.

    Raises RunError where one failed that the others need.
    """
    deadline = time.monotonic() + 3600 * hours if hours else math.inf
    done, failed, late = [], [], []
    for number, run in enumerate(runs, 1):
        study.check_there()  # or its runs would begin again where it was
        needed = "" if run.row else ", which it needs"
        log.info("\n%s: run %d of %d, %s%s", study.name, number, len(runs), run.name, needed)
        outcome = _train_apart(run, deadline)
        {True: done, False: failed, None: late}[outcome].append(run)
        if outcome is False and not run.row:
            raise RunError(
                f"{study.name} needs the run {run.name}, which failed with the error above."
            )
    return done, failed, late


def _compare(
    config: ConfigDict, workdir: Path, runs: Sequence[Planned], done: Sequence[Planned]
) -> None:
    """Writes the comparison of the rows of which every run is done."""
    from imgcls_jax.evaluation import cost
    from imgcls_jax.reporting import compare

    rows: dict[str, list[Planned]] = {}
    for run in runs:
        if run.row:
            rows.setdefault(run.row, []).append(run)
    groups = [
        (label, row[0].reported, [RunFolder(run.folder) for run in row])
        for label, row in rows.items()
        if all(run in done for run in row)
    ]
    if groups:
        backend.configure()
        text = compare.write(groups, workdir, title=config.title, meter=cost.Meter())
        log.info("\n%s\n%s", text, workdir / "table.md")


def ensemble(config: ConfigDict, workdir: Path, given: Iterable[str] = ()) -> None:
    """Trains the ensemble's members that are missing, as runs/NAME, and lets them vote."""
    from imgcls_jax.evaluation.ensemble import weights_of

    members = plan(config, workdir, given)
    weights_of(config.weights, len(members))
    _train_in_turn(members, RunFolder(workdir))
    ensembles.ensemble(
        [str(run.folder) for run in members], weights=config.weights, workdir=workdir
    )


def _train_apart(run: Planned, deadline: float) -> bool | None:
    """Trains in a process of its own, since a backend is set up once a process; returns whether the run is finished,
    None where the deadline (of time.monotonic) came first.

    Raises Interrupted where a signal stopped it.
    """
    try:
        if resuming.finished(training.checked(run.config), RunFolder(run.folder)):
            return True
    except UserError as error:
        console.say(f"error: {error}", error=True)
        return False
    if time.monotonic() >= deadline:
        return None
    process = multiprocessing.get_context("spawn").Process(target=_run, args=(run,), name=run.name)
    received = []

    def forward(number, frame):
        console.say(
            f"{signal.Signals(number).name}: the study stops as soon as {run.name} is saved."
        )
        received.append(number)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)

    process.start()
    before = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        while process.is_alive() and time.monotonic() < deadline:
            process.join(min(deadline - time.monotonic(), 3600.0))
        late = process.is_alive()
        if late:
            process.terminate()  # SIGTERM: it saves and stops
            process.join()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        raise Interrupted(received[-1])
    if late:
        return None
    if process.exitcode < 0:
        log.error("%s was ended by %s.", run.folder, signal.Signals(-process.exitcode).name)
    return process.exitcode == 0


def _run(run: Planned) -> None:
    """The process of a run: a Ctrl-C reaches it through the study alone, and it ends with the study."""
    os.setpgrp()
    console.set_up()
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    try:
        # The run of a study that was just killed may have to save first, and end.
        training.train(run.config, run.folder, run.given, patience=PATIENCE)
    except UserError as error:
        console.say(f"error: {error}", error=True)
        sys.exit(2)
    except Interrupted as stop:
        sys.exit(stop.exit_status)


def _stop_with_parent() -> None:
    multiprocessing.parent_process().join()
    os.kill(os.getpid(), signal.SIGTERM)  # saves, then stops
