"""Runs and studies that are killed again and again, at random moments, and started again, until they are finished."""

import dataclasses
import random
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.faults.processes import Launched

# What a run does, in this order; checkpoints are written while training goes on.
STAGES = ("start-up", "training", "checkpointing", "evaluation", "report")
STUDY_STAGES = ("a study's run", "a study's table")
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
LAST_STEP = 1610  # of tests/faults/tiny.py: 10 epochs
RUNS = 4  # of tests/faults/tiny_study.py
# Seconds within which a kill falls after its stage was seen to begin; the others' are taken from an undisturbed run.
LENGTHS = {"start-up": 3.0, "training": 0.2, "checkpointing": 0.05}
PACE = 0.001  # seconds between two looks


@dataclasses.dataclass(frozen=True)
class Kill:
    stage: str  # in which it fell
    signal: str


class Loss(AssertionError):
    """What should not have happened."""


def arguments(workdir: Path, config: str = "tiny") -> list[str]:
    return ["--config", f"tests/faults/{config}.py", "--workdir", str(workdir)]


def stage(workdir: Path, printed: str) -> str:
    """What the run does at this moment, as far as its folder and what it printed tell."""
    if (workdir / "test.json").exists():
        return "report"
    if (workdir / "checkpoints" / str(LAST_STEP)).exists():
        return "evaluation"
    if temporary(workdir):
        return "checkpointing"
    return "training" if "Trainable" in printed else "start-up"


def temporary(workdir: Path) -> set[str]:
    """The names of the checkpoints that are being written."""
    return {path.name for path in (workdir / "checkpoints").glob("*-tmp")}


def finished_runs(workdir: Path) -> int:
    return len(list(workdir.glob("*/report.html")))


def study_stage(workdir: Path, printed: str) -> str:
    """The same of a study, which goes through its runs before its table, though they are finished."""
    return STUDY_STAGES[finished_runs(workdir) == RUNS and f"run {RUNS} of {RUNS}" in printed]


def undisturbed(workdir: Path, config: str = "tiny") -> dict[str, float]:
    """Runs it to its end; returns the seconds that its last stages took."""
    stages, look = (STAGES[-2:], stage) if config == "tiny" else (STUDY_STAGES[-1:], study_stage)
    process, begun = Launched(arguments(workdir, config), workdir.with_suffix(".txt")), {}
    while process.code is None:
        begun.setdefault(look(workdir, process.printed), time.monotonic())
        time.sleep(PACE)
    finish(process)
    ends = [begun[each] for each in stages[1:]] + [time.monotonic()]
    return {each: end - begun[each] for each, end in zip(stages, ends, strict=True)}


def kill_run(
    workdir: Path, aims: Sequence[str], *, draw: random.Random, lengths: Mapping[str, float]
) -> list[Kill]:
    """Kills the run once in each of the STAGES `aims`, as far as it gets into them, then lets it end."""

    def ready(process: Launched, aim: str) -> Callable[[], bool]:
        """Whether the run is in the stage or past it: in training for up to two epochs, at up to the third save."""
        number, seen = draw.randint(0, 2), set()

        def look() -> bool:
            now = stage(workdir, process.printed)
            if aim in ("training", "checkpointing") and STAGES.index(now) < STAGES.index(
                "evaluation"
            ):
                seen.update(temporary(workdir))
                begun = process.printed.count("train loss") >= number and now == "training"
                return len(seen) > number if aim == "checkpointing" else begun
            return STAGES.index(now) >= STAGES.index(aim)

        return look

    return _kill(arguments(workdir), workdir, aims, ready, stage, draw, {**LENGTHS, **lengths})


def kill_study(
    workdir: Path, aims: Sequence[str], *, draw: random.Random, lengths: Mapping[str, float]
) -> list[Kill]:
    """The same of a study: kills its parent process in the STUDY_STAGES `aims`, starting it again at once each time."""

    def ready(process: Launched, aim: str) -> Callable[[], bool]:
        number = min(finished_runs(workdir) + draw.randint(1, 2), RUNS)

        def look() -> bool:
            begun = f"run {number} of {RUNS}" in process.printed
            return begun if aim == STUDY_STAGES[0] else study_stage(workdir, process.printed) == aim

        return look

    return _kill(arguments(workdir, "tiny_study"), workdir, aims, ready, study_stage, draw, lengths)


def _kill(command, workdir, aims, ready, look, draw, lengths) -> list[Kill]:
    kills = []
    for number, aim in enumerate(aims):
        # What is forked has no start-up to speak of; a study's runs are started by itself.
        process = Launched(
            command, workdir.with_suffix(f".{number}.txt"), plain=aim in ("start-up", *STUDY_STAGES)
        )
        there = ready(process, aim)
        while process.code is None and not there():
            time.sleep(PACE)
        time.sleep(draw.uniform(0, lengths[aim]))
        seen, ended_by = look(workdir, process.printed), draw.choice(SIGNALS)
        process.send(ended_by)
        if process.wait() == 0:
            break  # it was quicker
        check_end(process, ended_by, seen)
        kills.append(Kill(seen, ended_by.name))
    finish(Launched(command, workdir.with_suffix(".last.txt"), plain=look is study_stage))
    return kills


def check_end(process: Launched, number: int, where: str) -> None:
    """Raises Loss where the process did not end as the signal has it."""
    expected = (-number,) if number == signal.SIGKILL else (-number, 128 + number)
    if process.code not in expected:
        raise Loss(
            f"exit status {process.code} after {number.name} in {where}:\n{process.printed[-3000:]}"
        )
    if process.code == 128 + number and "The same command resumes" not in process.printed:
        raise Loss(
            f"no word on resuming after {number.name} in {where}:\n{process.printed[-3000:]}"
        )


def finish(process: Launched) -> Launched:
    """Waits for the end. Raises Loss for one that is not good."""
    if process.wait() != 0:
        raise Loss(f"exit status {process.code}:\n{process.printed[-3000:]}")
    return process
