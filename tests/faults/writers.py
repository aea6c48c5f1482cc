"""Commands that write into the folders of finished runs: killed at random moments, and two of them at a time.

Afterwards, given once more, each leaves what it leaves undisturbed, and the run is the one it was.
"""

import dataclasses
import functools
import hashlib
import random
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.faults import kills, outcome
from tests.faults.kills import SIGNALS, Kill, Loss
from tests.faults.processes import ROOT, Launched

TINY = str(ROOT / "tests/faults/tiny.py")
# By a name, the command's arguments in a folder that holds the runs "run" and "other".
WRITERS: dict[str, Callable[[Path], list[str]]] = {
    "report": lambda folder: ["report", f"{folder}/run"],
    "explain": lambda folder: ["explain", f"{folder}/run"],
    "robustness": lambda folder: ["robustness", f"{folder}/run", "--limit=20"],
    "unknown": lambda folder: ["unknown", f"{folder}/run"],
    "export": lambda folder: ["export", f"{folder}/run"],
    "export for ONNX": lambda folder: ["export", f"{folder}/run", "--format=onnx", "--int8"],
    "predict": lambda folder: ["predict", f"{folder}/run", f"{folder}/run/samples.png"],
    "publish": lambda folder: ["publish", f"{folder}/run"],
    "audit": lambda folder: ["audit", f"{folder}/run"],
    "find-lr": lambda folder: ["find-lr", TINY, "--steps=50", f"--workdir={folder}/run"],
    "show-data": lambda folder: ["show-data", TINY, f"--workdir={folder}/run"],
    "ensemble": lambda folder: [
        "ensemble",
        f"{folder}/run",
        f"{folder}/other",
        f"--workdir={folder}/both",
    ],
    "compare": lambda folder: [
        "compare",
        f"{folder}/run",
        f"{folder}/other",
        f"--workdir={folder}/table",
    ],
    "index": lambda folder: ["index", str(folder)],
}
RACES = [
    ("report", "report"),
    ("report", "explain"),
    ("robustness", "export"),
    ("export", "export"),
    ("export", "export for ONNX"),
    ("unknown", "report"),
    ("unknown", "unknown"),
    ("audit", "audit"),
    ("find-lr", "show-data"),
    ("explain", "publish"),
    ("publish", "publish"),
    ("predict", "predict"),
    ("ensemble", "ensemble"),
    ("compare", "compare"),
    ("index", "index"),
]
REFUSALS = ("Another process is training into", "holds the run of another config")


@dataclasses.dataclass(frozen=True)
class Undisturbed:
    """What commands do to a folder, given one after the other, when nothing happens."""

    seconds: float  # that the first takes
    files: dict[str, str]  # hashes by path, "" of those that differ from time to time


class Writers:
    """The commands on copies of a finished run, below `folder`; expected: the outcome of that run."""

    def __init__(self, folder: Path, whole: Path, expected: dict[str, Any]):
        self.folder, self._whole, self._expected = folder, whole, expected
        self._known: dict[tuple[str, ...], Undisturbed] = {}
        folder.mkdir(exist_ok=True)

    def kill(self, name: str, count: int, *, draw: random.Random) -> list[Kill]:
        """Kills a command `count` times at random moments, then lets it end."""
        undisturbed = self._undisturbed([name])
        folder, found = self._copy(f"killed-{name}", [name]), []
        for number in range(count):
            process = self._start(name, folder, str(number))
            time.sleep(draw.uniform(0, undisturbed.seconds))
            ended_by = draw.choice(SIGNALS)
            process.send(ended_by)
            if process.wait() != 0:  # otherwise it was quicker
                kills.check_end(process, ended_by, name)
                found.append(Kill(f"imgcls {name}", ended_by.name))
        self._finish([name], folder)
        self._check(folder, [name])
        return found

    def race(self, first: str, second: str, *, draw: random.Random, number: int = 0) -> None:
        """Starts two commands on one folder: each comes to its end, or is refused in a line."""
        names = [first] if first == second else [first, second]
        undisturbed = self._undisturbed(names)
        folder = self._copy(f"race{number}-{first}-{second}", names)
        processes = [self._start(first, folder, "one")]
        time.sleep(draw.uniform(0, undisturbed.seconds))
        processes.append(self._start(second, folder, "two"))
        if not any([ended_well(process) for process in processes]):
            raise Loss(f"both were refused: {processes[0].printed[-500:]}")
        self._finish(names, folder)
        self._check(folder, names)

    @functools.cached_property
    def other(self) -> Path:
        """A finished run of another seed."""
        other = self.folder / "seed1"
        kills.finish(
            Launched([*kills.arguments(other), "--config.seed=1"], other.with_suffix(".txt"))
        )
        return other

    def _copy(self, name: str, commands: Sequence[str]) -> Path:
        """A folder with the finished run, and another one if a command takes two."""
        folder = self.folder / name / "runs"  # a name that is on the page of an index
        shutil.copytree(self._whole, folder / "run")
        if any(f"{folder}/other" in WRITERS[command](folder) for command in commands):
            shutil.copytree(self.other, folder / "other")
        return folder

    def _start(self, name: str, folder: Path, number: str) -> Launched:
        output = folder.with_suffix(f".{number}.txt")
        return Launched(WRITERS[name](folder), output, command="imgcls", cwd=folder)

    def _finish(self, names: Sequence[str], folder: Path) -> None:
        for name in names:
            kills.finish(self._start(name, folder, f"after-{name}"))

    def _undisturbed(self, names: Sequence[str]) -> Undisturbed:
        """Run three times: with its programs compiled it takes its time, and what the last two leave may differ."""
        key = tuple(names)
        if key not in self._known:
            folder, snapshots = self._copy(f"whole-{'-'.join(names)}", names), []
            for _ in range(3):
                began = time.monotonic()
                self._finish(names[:1], folder)
                seconds = time.monotonic() - began
                self._finish(names[1:], folder)
                snapshots.append(_files(folder))
            before, after = snapshots[1:]
            stable = {
                path: digest if before.get(path) == digest else "" for path, digest in after.items()
            }
            self._known[key] = Undisturbed(seconds, stable)
        return self._known[key]

    def _check(self, folder: Path, names: Sequence[str]) -> None:
        files, expected = _files(folder), self._undisturbed(names).files
        for path, digest in expected.items():
            if path not in files or (digest and files[path] != digest):
                raise Loss(f"{path} is not what an undisturbed {' and '.join(names)} leaves")
        if more := sorted(set(files) - set(expected)):
            raise Loss(f"left over: {more}")
        if differs := outcome.differences(self._expected, outcome.of(folder / "run")):
            raise Loss(f"{', '.join(differs)} of the run are no longer the same")


def race_trainings(
    workdir: Path, outcomes: Sequence[Mapping[str, Any]], *, draw: random.Random
) -> None:
    """Starts the trainings of seeds 0 and 1 on one folder: one is refused in a line, the other is not disturbed."""
    processes = []
    for seed in (0, 1):
        command = [*kills.arguments(workdir), f"--config.seed={seed}"]
        processes.append(Launched(command, workdir.with_suffix(f".seed{seed}.txt")))
        time.sleep(draw.uniform(0, kills.LENGTHS["start-up"]))
    ended = [ended_well(process) for process in processes]
    if ended.count(True) != 1:
        raise Loss(f"the trainings ended {ended}")
    if differs := outcome.differences(outcomes[ended.index(True)], outcome.of(workdir)):
        raise Loss(f"{', '.join(differs)} are not those of an undisturbed run")


def ended_well(process: Launched) -> bool:
    """Whether the command did what it should; False where it was refused in a line. Raises Loss for anything else."""
    code, errors = (
        process.wait(),
        [line for line in process.printed.splitlines() if line.startswith("error: ")],
    )
    if code == 0:
        return True
    if code != 2 or len(errors) != 1 or not any(words in errors[0] for words in REFUSALS):
        raise Loss(f"exit status {code}:\n{process.printed[-2000:]}")
    return False


def _files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }
