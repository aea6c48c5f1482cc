"""Trains the runs of a study in turn, each in a process of its own.

Several processes may do this for one study, on one machine or on several that share its folder.
Each claims a run before it has it trained, and leaves the runs that others have claimed to them.
The operating system ends the claim of a process that is killed: another one then goes on with its
run.
"""

import contextlib
import dataclasses
import enum
import logging
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType

from ml_collections import ConfigDict

from imgcls_jax import api, console
from imgcls_jax.errors import RunError, UserError, listed
from imgcls_jax.run import resuming
from imgcls_jax.run.claim import claimed, is_claimed
from imgcls_jax.run.folder import RunFolder
from imgcls_jax.run.lock import FolderInUseError
from imgcls_jax.training.interrupt import Interrupted

log = logging.getLogger(__name__)

PATIENCE = 60.0  # seconds that a run may take to end once its study is gone
FOLDER_IN_USE = 75  # exit status of a run's process: "try again", as of sysexits.h
MOST_JOIN = 3600.0  # seconds between two looks at a run's process
POLL_SECONDS = 1.0  # between two looks at the runs that other processes have claimed


@dataclasses.dataclass(frozen=True)
class Planned:
    """A run that a study consists of, or needs first."""

    row: str  # its row's label, "" for a run that is needed first
    config: ConfigDict
    folder: Path
    reported: Mapping[str, float]
    changed: tuple[str, ...] = ()  # paths of options that the command line, or a grid, sets
    note: str = ""  # what its name does not say: the options of a search's trial

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def title(self) -> str:
        """The name and the note."""
        if not self.note:
            return self.name
        return f"{self.name} ({self.note})"


class Outcome(enum.Enum):
    """How a study's attempt to train a run ended."""

    FINISHED = "finished"
    FAILED = "failed"
    OUT_OF_TIME = "out of time"
    CLAIMED = "in another process"


class Trainer:
    """Trains a study's runs in turn, and says which of them it is at."""

    def __init__(self, study: RunFolder, *, total: int, hours: float = 0.0):
        """total: the number of all runs. hours: a limit for all of them; 0 for none."""
        self._study = study
        self._total = total
        self._deadline = math.inf
        if hours:
            self._deadline = time.monotonic() + 3600 * hours
        self._begun = 0

    def is_over(self) -> bool:
        """Whether the time is spent, so that no run begins any more."""
        return time.monotonic() >= self._deadline

    def train(self, runs: Iterable[Planned]) -> dict[Path, Outcome]:
        """Trains the runs; returns their outcomes by their folders.

        At the end those are waited for that other processes have claimed, and trained if these
        stop. Raises RunError if a run failed that the others need.
        """
        outcomes = {}
        left_to_others = {}
        for run in runs:
            self._begun += 1
            outcomes[run.folder] = self._train(run, self._begun)
            if outcomes[run.folder] == Outcome.CLAIMED:
                log.info("%s is trained by another process.", run.name)
                left_to_others[self._begun] = run
        return outcomes | self._wait_for(left_to_others)

    def _wait_for(self, left_to_others: dict[int, Planned]) -> dict[Path, Outcome]:
        """Waits until the runs, by their numbers, are finished or another outcome is known."""
        outcomes: dict[Path, Outcome] = {}
        if left_to_others:
            names = listed([run.name for run in left_to_others.values()])
            log.info("\n%s: waiting for %s, in other processes", self._study.name, names)
        while len(outcomes) < len(left_to_others):
            time.sleep(POLL_SECONDS)
            for number, run in left_to_others.items():
                if run.folder in outcomes:
                    continue
                if is_claimed(RunFolder(run.folder)) and not self.is_over():
                    continue
                outcome = self._train(run, number)
                if outcome != Outcome.CLAIMED:
                    outcomes[run.folder] = outcome
        return outcomes

    def _train(self, run: Planned, number: int) -> Outcome:
        self._study.check_there()  # If it was moved, its runs would begin again in the old place.
        title = run.title
        if not run.row:
            title += ", which it needs"
        log.info("\n%s: run %d of %d, %s", self._study.name, number, self._total, title)
        outcome = _train_run(run, self._deadline)
        if outcome == Outcome.FAILED and not run.row:
            raise RunError(
                f"{self._study.name} needs the run {run.name}, which failed with the error above."
            )
        return outcome


def _train_run(run: Planned, deadline: float) -> Outcome:
    """Trains a run unless it is finished, or claimed by another process.

    deadline: of time.monotonic(); a run that is not finished by then is saved and stopped. Raises
    Interrupted if a signal stopped it.
    """
    folder = RunFolder(run.folder)
    try:
        config = api.check_config(run.config)
        if resuming.finished(config, folder):
            return Outcome.FINISHED
        if time.monotonic() >= deadline:
            return Outcome.OUT_OF_TIME
        with claimed(folder):
            if resuming.finished(config, folder):  # by another process, after the look above
                return Outcome.FINISHED
            return _train_in_process(run, deadline)
    except FolderInUseError:
        return Outcome.CLAIMED
    except UserError as error:
        console.say(f"error: {error}", error=True)
        return Outcome.FAILED


def _train_in_process(run: Planned, deadline: float) -> Outcome:
    """Trains a run in a process of its own, since a backend is set up once a process.

    deadline, Interrupted: as of `_train_run`.
    """
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
    if exitcode == FOLDER_IN_USE:
        return Outcome.CLAIMED
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
    if sys.platform != "win32":
        os.setpgrp()
    console.set_up()
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    try:
        # The process of a study that was just killed may still be saving the same run.
        api.train(run.config, run.folder, changed=run.changed, patience=PATIENCE)
    except FolderInUseError:
        sys.exit(FOLDER_IN_USE)
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
