"""Faults of disks, clocks and files, each tried on a run's folder: the run goes on to the same end, or says what to do.

FAULTS has them by name. Each is a function of a Case, and raises Loss where something is lost.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from tests.faults import kills, outcome
from tests.faults.kills import Loss
from tests.faults.processes import Launched

FAULTS: dict[str, Callable[["Case"], None]] = {}


def fault(function: Callable[["Case"], None]) -> Callable[["Case"], None]:
    FAULTS[function.__name__.replace("_", " ")] = function
    return function


class Impossible(Exception):
    """The fault cannot be had on this machine."""


class Case:
    """A folder for a fault, and what is expected of a run in it."""

    def __init__(self, folder: Path, whole: Path, begun: Path, expected: dict[str, Any]):
        """whole: an undisturbed run, of which `expected` is the outcome; begun: one that was stopped on its way."""
        self.folder, self._whole, self._begun, self._expected = folder, whole, begun, expected

    def begun(self) -> Path:
        """The folder of a run that was stopped when its best checkpoint was older than the two newest."""
        return shutil.copytree(self._begun, self.folder)

    def whole(self) -> Path:
        """The folder of a finished run."""
        return shutil.copytree(self._whole, self.folder)

    def start(self, name: str = "run", **conditions) -> Launched:
        return Launched(
            kills.arguments(self.folder),
            self._whole.with_name(f"{self._whole.name}.{name}.txt"),
            **conditions,
        )

    def resumes(self, says: str = "", **conditions) -> None:
        """The command ends well, with the outcome of an undisturbed run."""
        self.comes_out(kills.finish(self.start(**conditions)), says)

    def comes_out(self, process: Launched, says: str = "") -> None:
        if says not in process.printed:
            raise Loss(f"it does not say {says!r}:\n{process.printed[-3000:]}")
        if differs := outcome.differences(self._expected, outcome.of(self.folder)):
            raise Loss(
                f"{', '.join(differs)} are not those of an undisturbed run:\n{process.printed[-3000:]}"
            )

    def told(self, says: str, **conditions) -> None:
        """The command ends with one line of error that says so, and with no traceback."""
        process = self.start(**conditions)
        code, lines = process.wait(), process.printed.splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        if code != 2 or len(errors) != 1 or says not in errors[0] or "Traceback" in process.printed:
            raise Loss(
                f"exit status {code}, expected an error with {says!r}:\n{process.printed[-3000:]}"
            )

    def newest(self) -> Path:
        return max((path for path in self._steps()), key=lambda path: int(path.name))

    def best(self) -> Path:
        """Of a begun run: older than the newest two."""
        progress = json.loads((self.newest() / "progress" / "metadata").read_text())["progress"]
        return self.folder / "checkpoints" / str(progress["best_step"])

    def _steps(self) -> list[Path]:
        return [path for path in (self.folder / "checkpoints").iterdir() if path.name.isdigit()]


def begin(workdir: Path) -> None:
    """Trains until two epochs in a row were no better than the best before, then stops by SIGTERM."""
    process = Launched(kills.arguments(workdir), workdir.with_suffix(".txt"))
    while process.code is None:
        epochs = [line for line in process.printed.splitlines() if "train loss" in line]
        if len(epochs) >= 3 and not any("(best)" in line for line in epochs[-2:]):
            process.send(signal.SIGTERM)
            break
        time.sleep(kills.PACE)
    process.wait()
    kills.check_end(process, signal.SIGTERM, "training")


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _flip(folder: Path) -> None:
    """Flips a bit in the middle of each large file: in arrays, which hold no redundancy."""
    for file in _files(folder):
        content = bytearray(file.read_bytes())
        if len(content) > 200 and "d" in file.parts:
            content[len(content) // 2] ^= 1
            file.write_bytes(content)


def _cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


@fault
def flipped_bytes_in_the_newest_checkpoint(case):
    case.begun()
    _flip(case.newest())
    case.resumes("is damaged")


@fault
def a_flipped_digit_in_the_newest_checkpoints_progress(case):
    case.begun()
    file = case.newest() / "progress" / "metadata"
    file.write_text(file.read_text().replace('"epoch": ', '"epoch": 1', 1))
    case.resumes("is damaged")


@fault
def newest_checkpoint_cut_off(case):
    case.begun()
    for file in _files(case.newest()):
        _cut(file)
    case.resumes("is damaged")


@fault
def newest_checkpoint_without_its_arrays(case):
    case.begun()
    shutil.rmtree(case.newest() / "model")
    case.resumes("is damaged")


@fault
def newest_checkpoint_missing(case):
    case.begun()
    shutil.rmtree(case.newest())
    case.resumes()


@fault
def every_checkpoint_damaged(case):
    case.begun()
    _flip(case.folder / "checkpoints")
    case.resumes("is damaged")


@fault
def best_checkpoint_damaged(case):
    case.begun()
    _flip(case.best())
    case.told("Put it back from a copy")
    shutil.rmtree(case.folder)  # as the error says
    case.resumes()


@fault
def best_checkpoint_missing(case):
    """What is lost is lost: the run goes on, says so, and names the epoch that it keeps."""
    case.begun()
    best = case.best()
    shutil.rmtree(best)
    printed = kills.finish(case.start()).printed
    kept = json.loads((case.folder / "test.json").read_text())["best_step"]
    if f"{best} is missing, the best checkpoint" not in printed or kept <= int(best.name):
        raise Loss(f"step {kept} was kept:\n{printed[-3000:]}")


@fault
def empty_step_folder(case):
    (case.begun() / "checkpoints" / "9999").mkdir()
    case.resumes()


@fault
def left_over_temporary_folders(case):
    case.begun()
    shutil.copytree(case.newest(), case.folder / "checkpoints" / "9999.orbax-checkpoint-tmp")
    shutil.copytree(case.newest(), case.folder / "checkpoints" / "40.orbax-checkpoint-tmp-1234")
    (case.folder / ".report.html.partial").write_text("<html>")
    case.resumes()


@fault
def last_line_of_metrics_cut_off(case):
    file = case.begun() / "metrics.jsonl"
    os.truncate(file, file.stat().st_size - 20)
    case.resumes()


@fault
def metrics_missing(case):
    (case.begun() / "metrics.jsonl").unlink()
    case.resumes()


@fault
def metrics_of_zeros(case):
    """As some file systems leave it after a loss of power."""
    file = case.begun() / "metrics.jsonl"
    file.write_bytes(bytes(file.stat().st_size))
    case.resumes()


@fault
def config_cut_off(case):
    file = case.begun() / "config.json"
    _cut(file)
    case.told("config.json is damaged")
    file.unlink()  # as the error says
    case.resumes("is taken for one of this config")


@fault
def data_report_of_zeros(case):
    file = case.begun() / "data.json"
    file.write_bytes(bytes(100))
    case.told("data.json is damaged")
    file.unlink()
    case.resumes()


@fault
def test_figures_cut_off(case):
    file = case.whole() / "test.json"
    _cut(file)
    case.told("test.json is damaged")
    for each in (file, case.folder / "report.html"):  # as the error says
        each.unlink()
    case.resumes()


@fault
def predictions_cut_off_before_the_report(case):
    file = case.whole() / "predictions.npz"
    (case.folder / "report.html").unlink()
    _cut(file)
    case.told("predictions.npz is damaged")
    file.unlink()
    case.resumes()


@fault
def predictions_missing(case):
    (case.whole() / "predictions.npz").unlink()
    case.resumes()


@fault
def report_and_pictures_missing(case):
    for file in (*case.whole().glob("*.png"), case.folder / "report.html"):
        file.unlink()
    case.resumes()


def _disk_full(case: Case, largest: int) -> None:
    """Writing fails in whatever file is the first to outgrow `largest` bytes."""
    case.told("File too large. Nothing that was saved is lost", largest_file=largest)
    case.resumes()


@fault
def no_room_for_the_config(case):
    _disk_full(case, 1_000)


@fault
def no_room_for_tensorboard(case):
    _disk_full(case, 6_000)


@fault
def no_room_for_a_checkpoint(case):
    case.begun()
    _disk_full(case, 50_000)


@fault
def no_room_for_the_report(case):
    for name in ("report.html", "test.json"):
        (case.whole() if name == "report.html" else case.folder).joinpath(name).unlink()
    _disk_full(case, 90_000)


@contextlib.contextmanager
def _mounted(folder: Path, options: str) -> Iterator[None]:
    """A file system in memory."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        raise Impossible("file systems cannot be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@fault
def a_small_disk_that_fills_while_it_trains(case):
    disk = case.folder
    with _mounted(disk, "size=1500k"):
        case.folder = disk / "run"
        case.told("No space left on device. Nothing that was saved is lost")
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        case.resumes()


@fault
def read_only_file_system(case):
    disk = case.folder
    with _mounted(disk, "size=1m,ro"):
        case.folder = disk / "run"
        case.told("is read-only")


@fault
def folder_of_another_user(case):
    if not os.geteuid():
        raise Impossible("root may write everywhere")
    case.folder.mkdir(mode=0o500)
    case.told("is read-only")


@fault
def workdir_below_a_file(case):
    case.folder.write_text("")
    case.folder = case.folder / "run"
    case.told("is a file. Give another --workdir")


@fault
def two_processes_on_one_workdir(case):
    """The second is refused, the first is not disturbed; a crash ends its lock."""
    first = case.start("first")
    while "train loss" not in first.printed and first.code is None:
        time.sleep(kills.PACE)
    first.send(signal.SIGSTOP)  # it shall not be quicker
    try:
        case.told("Another process is training into")
    finally:
        first.send(signal.SIGKILL)
    first.wait()
    case.resumes()


def _while_it_trains(case: Case, change: Callable[[Path], None]) -> Launched:
    """Changes something of the folder once an epoch is done, and waits for the end."""
    process = case.start()
    while "train loss" not in process.printed and process.code is None:
        time.sleep(kills.PACE)
    change(case.folder)
    code, errors = (
        process.wait(),
        [line for line in process.printed.splitlines() if line.startswith("error: ")],
    )
    if (
        code != 2
        or len(errors) != 1
        or "was renamed or deleted" not in errors[0]
        or "Traceback" in process.printed
    ):
        raise Loss(f"exit status {code}:\n{process.printed[-3000:]}")
    if case.folder.exists():
        raise Loss(f"{[str(path) for path in case.folder.rglob('*')]} was left behind")
    return process


@fault
def folder_deleted_while_it_trains(case):
    _while_it_trains(case, _delete)
    case.resumes()


def _delete(folder: Path) -> None:
    """Deletes a folder into which another process writes meanwhile."""
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)


@fault
def folder_renamed_while_it_trains(case):
    moved = case.folder.with_name(f"{case.folder.name}-moved")
    _while_it_trains(case, lambda folder: folder.rename(moved))
    case.folder = moved  # as the error says
    case.resumes()


@fault
def killed_while_it_decodes(case):
    """What the killed process has written of the cache is swept away by the next one."""
    images, cache = case.folder.with_name("images"), case.folder.with_name("cache")
    for number in range(800):
        path = images / str(number % 4) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 60 * (number % 4) + number // 20).save(path)
    options = [
        f"--config.data.path={images}",
        f"--config.data.cache={cache}",
        "--config.train.epochs=1",
    ]
    command = [*kills.arguments(case.folder), "--config.data.source=folder", *options]
    process = Launched(command, case.folder.with_suffix(".killed.txt"))
    while process.code is None and not list(cache.glob(".*.partial")):
        time.sleep(kills.PACE)
    process.send(signal.SIGKILL)
    process.wait()
    if not list(cache.glob(".*.partial")):
        raise Impossible("it was quicker than its kill")
    kills.finish(Launched(command, case.folder.with_suffix(".again.txt")))
    if left := [path.name for path in cache.iterdir() if path.name[0] == "."]:
        raise Loss(f"{left} are left in the cache")


def _older(archive: Path) -> Callable[[Case], None]:
    def resumed(case: Case) -> None:
        """A run that an older version began comes to its end."""
        with tarfile.open(archive) as file:
            file.extractall(case.folder.parent, filter="data")
        (case.folder.parent / "run").rename(case.folder)
        command = ["--config", "tests/old_runs/small.py", "--workdir", str(case.folder)]
        printed = kills.finish(Launched(command, case.folder.with_suffix(".txt"))).printed
        epochs = [
            json.loads(line)["epoch"]
            for line in (case.folder / "metrics.jsonl").read_text().splitlines()
        ]
        if "Resuming" not in printed or epochs != [1, 2, 3, 4, 5, 6]:
            raise Loss(f"its epochs are {epochs}:\n{printed[-3000:]}")

    return resumed


FAULTS |= {
    f"run begun by {archive.name.partition('.')[0]}": _older(archive)
    for archive in sorted((Path(__file__).parents[1] / "old_runs").glob("*.tar.xz"))
}


@fault
def clock_set_back_while_it_trains(case):
    case.resumes(clock=True)


@fault
def files_from_the_future(case):
    """As if the clock had been set back by a year between two starts."""
    for path in [case.begun(), *case.folder.rglob("*")]:
        os.utime(path, (time.time() + 365 * 86400,) * 2)
    case.resumes()


@fault
def second_signal_while_it_saves(case):
    process = case.start()
    while "train loss" not in process.printed and process.code is None:
        time.sleep(kills.PACE)
    process.send(signal.SIGTERM)
    while "Once more stops at once" not in process.printed and process.code is None:
        time.sleep(kills.PACE)
    process.send(signal.SIGTERM)
    process.wait()
    case.resumes()


@fault
def cache_of_compiled_programs_cut_off(case):
    """As a kill leaves it while JAX writes it."""
    damaged = case.folder.with_name("damaged-programs")
    shutil.copytree(os.environ["JAX_COMPILATION_CACHE_DIR"], damaged)
    for file in _files(damaged):
        _cut(file)
    case.resumes(compiled=damaged)
