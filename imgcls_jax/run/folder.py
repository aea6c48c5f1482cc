"""The files of a run folder: their names, and how they are read and written, in one place."""

import contextlib
import glob
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from ml_collections import ConfigDict

from imgcls_jax import distributed, files, foreign
from imgcls_jax.errors import RunError, is_utf8, printable
from imgcls_jax.run import schema

CONFIG = "config.json"
ENVIRONMENT = (
    "environment.json"  # versions, device, commit, data fingerprint, command, hashes of weights
)
DATA = "data.json"  # the data report
METRICS = "metrics.jsonl"  # a line an epoch
STEPS = "steps.jsonl"  # a line for every so many training steps, which TensorBoard shows
TEST = "test.json"  # test figures and the run's summary
PREDICTIONS = "predictions.npz"  # probabilities float32 [N, K] and labels int32 [N] of the test and validation sets
REPORT = "report.html"  # written last: its presence marks the run as finished
TEACHER = "teacher.npz"  # of distillation: the teacher's log probabilities of the training images
CHECKPOINTS = "checkpoints"
TENSORBOARD = "tensorboard"
PROFILE = "profile"  # the trace of --profile
LOCK = ".lock"  # held by the process that writes into the folder
SHOWN = "show_data.png"  # of imgcls show-data
ROBUSTNESS = "robustness.json"  # accuracies under corruptions
EXPLANATION = "explain.json"  # the predictions that explain.png explains
ENSEMBLE = "ensemble.json"  # of a folder of imgcls ensemble: the members' paths and weights, and what they reach
PREDICTED = (
    "predicted.png"  # of imgcls predict: images of the user's with the classes found for them
)
CALIBRATION = "calibration.json"  # calibration errors, and the temperature that lowers them
EXPORT = "export"  # folder of imgcls export: the model as files that need no imgcls_jax


def training_command(path: str | os.PathLike) -> str:
    """A sentence on how to train the run that is missing at the path; "" where no config has its name."""
    config = os.path.join("configs", f"{Path(path).name}.py")
    return f" Train it first: python launch.py --config {config}." if os.path.isfile(config) else ""


class RunFolder:
    """A run's folder: `RunFolder("runs/mnist_cnn").test["accuracy"]`."""

    def __init__(self, path: str | os.PathLike):
        self.path = Path(os.path.expanduser(path))
        self._plain = False  # whether its files have been looked at

    def check_plain(self) -> None:
        """Raises RunError where there is anything in the folder but files, folders and links that stay in it."""
        if not self._plain:
            foreign.check_plain(self.path)
            self._plain = self.path.exists()

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def begun(self) -> bool:
        """Whether anything was saved that a run of another config would lose."""
        checkpoints = self.path / CHECKPOINTS
        return checkpoints.is_dir() and any(child.name.isdigit() for child in checkpoints.iterdir())

    @property
    def finished(self) -> bool:
        return all((self.path / name).exists() for name in (TEST, PREDICTIONS, REPORT))

    @property
    def config(self) -> ConfigDict:
        try:
            return ConfigDict(self.read_json(CONFIG))
        except ValueError as error:  # of ml_collections
            raise RunError(f"{self.path / CONFIG} is no config ({error}).") from error

    @property
    def environment(self) -> dict[str, Any]:
        return self.read_json(ENVIRONMENT)

    @property
    def data(self) -> dict[str, Any]:
        return self.read_json(DATA)

    @property
    def test(self) -> dict[str, Any]:
        return self.read_json(TEST)

    @property
    def history(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl: one dict an epoch, oldest first. A last line cut off by a kill is left out."""
        return self._lines(METRICS)

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The lines of steps.jsonl, in the same way; none in folders of versions that did not keep them."""
        return self._lines(STEPS) if (self.path / STEPS).exists() else []

    def _lines(self, name: str) -> list[dict[str, Any]]:
        file = self._file(name)
        return [schema.parse(file, line) for line in self._read(file).split("\n")[:-1]]

    @property
    def predictions(self) -> tuple[np.ndarray, np.ndarray]:
        """The test set's probabilities, float32 [N, K], and labels, int32 [N]."""
        if (found := self._predictions("")) is None:
            raise RunError(
                f"{self.path / PREDICTIONS} has no probabilities and labels of the test set."
            )
        return found

    @property
    def validation_predictions(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The same of the validation set; None in folders of versions that did not keep them."""
        return self._predictions("validation_")

    def _predictions(self, prefix: str) -> tuple[np.ndarray, np.ndarray] | None:
        file = self._file(PREDICTIONS)
        try:
            with (
                foreign.open_regular(file) as stream,
                np.load(stream, allow_pickle=False) as arrays,
            ):
                if f"{prefix}labels" not in arrays:
                    return None
                probabilities, labels = arrays[f"{prefix}probabilities"], arrays[f"{prefix}labels"]
        except Exception as error:  # a damaged file can raise nearly anything
            raise schema.damaged(file, error) from error
        if probabilities.dtype.kind == "f" and not np.isfinite(probabilities).all():
            raise RunError(
                f"{file} has probabilities that are not finite: the training diverged, or the file is damaged. Train "
                "again with a lower learning rate, under another --config.name."
            )
        kinds = probabilities.dtype.kind, probabilities.ndim, labels.dtype.kind, labels.ndim
        fit = kinds == ("f", 2, "i", 1) and 0 < len(labels) == len(probabilities)
        fit = fit and 0 <= labels.min() and labels.max() < probabilities.shape[1]
        if not fit:
            raise RunError(
                f"{file} is damaged: it should hold probabilities [N, K], and labels [N] below K."
            )
        return probabilities, labels

    def check_writable(self) -> None:
        """Raises RunError where the folder can neither be written into nor made."""
        if not is_utf8(str(self.path)):
            raise RunError(
                f"{printable(self.path)} has a name that is not UTF-8. Give another --workdir."
            )
        there = next(path for path in (self.path, *self.path.absolute().parents) if path.exists())
        if not there.is_dir():
            raise RunError(
                f"{self.path} cannot be a run folder: {there} is a file. Give another --workdir."
            )
        if not os.access(there, os.W_OK | os.X_OK):
            raise RunError(
                f"{self.path} cannot be written: {there} is read-only for this user. Give another --workdir, or make "
                "it writable."
            )

    @contextlib.contextmanager
    def locked(self, *, patience: float = 0.0) -> Iterator[None]:
        """Keeps other processes from writing into this folder, which is made; the lock ends with its process.

        Whoever writes into a run folder has its lock, and decides under it what there is to do: before, another process
        may have changed what is there. What killed processes have left half-written is swept away; a folder that was
        made for this and got nothing goes again.

        patience: seconds to wait for another process to end. Raises RunError where it does not, where there is no
        room left to write, and where the folder is renamed or deleted meanwhile. Of several processes of one training
        only the first asks for it.
        """
        if not distributed.is_primary():
            yield
            return
        self.check_writable()
        made = not self.path.exists()
        self.check_plain()
        with files.writing(self.path), self._wait_for_lock(patience) as self._lock:
            for folder in (self.path, self.path / EXPORT):
                files.sweep(folder, files.ANY_PARTIAL)
            try:
                yield
            except Exception as error:  # whatever came of it
                self.check_there(error)
                raise
            finally:
                self._tidy(made)
                self._lock = None

    @contextlib.contextmanager
    def unchanged(self) -> Iterator[None]:
        """As `locked`, for whoever reads several files: of a folder that cannot be written into nothing is locked."""
        with self.locked() if os.access(self.path, os.W_OK | os.X_OK) else contextlib.nullcontext():
            yield

    _lock: IO | None = None

    def _wait_for_lock(self, patience: float) -> IO:
        latest = time.monotonic() + patience
        while True:
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                number = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            except FileNotFoundError:
                continue  # the folder went again
            except OSError as error:
                raise RunError(
                    f"{self.path / LOCK} cannot be written: {error.strerror}."
                ) from error
            file = os.fdopen(number, "r+b")
            if files.lock(file):
                if files.is_at(file, self.path / LOCK):
                    return file
            elif time.monotonic() >= latest:
                file.close()
                raise RunError(
                    f"Another process is training into {self.path}, or writing into it. Wait until it is done, or give "
                    "another --workdir."
                )
            file.close()
            time.sleep(0.05)

    def check_there(self, cause: Exception | None = None) -> None:
        """Raises RunError, from `cause`, where the folder was renamed or deleted since this process took its lock."""
        if self._lock is None or files.is_at(self._lock, self.path / LOCK):
            return
        raise RunError(
            f"{self.path} was renamed or deleted while this process wrote into it, which stopped. What was saved is in "
            "the folder wherever it is now: with --workdir=FOLDER the same command goes on there."
        ) from cause

    def _tidy(self, made: bool) -> None:
        """Removes a folder that was made and got nothing, and what was still written where a renamed folder was."""
        with contextlib.suppress(OSError):
            inside = {child.name for child in self.path.iterdir()}
            if self._lock is not None and not files.is_at(self._lock, self.path / LOCK):
                if inside <= {CHECKPOINTS, TENSORBOARD, METRICS, STEPS}:
                    shutil.rmtree(self.path)
            elif made and inside == {LOCK}:
                (self.path / LOCK).unlink()
                self.path.rmdir()

    def read_json(self, name: str) -> Any:
        file = self._file(name)
        return schema.parse(file, self._read(file))

    @staticmethod
    def _read(file: Path) -> str:
        try:
            with foreign.open_regular(file) as stream:
                content = stream.read(schema.MOST_BYTES + 1)
            if len(content) > schema.MOST_BYTES:
                raise ValueError(f"it has more than {schema.MOST_BYTES:,} bytes")
            return content.decode()
        except (OSError, ValueError) as error:
            raise schema.damaged(file, error) from error

    def write_json(self, name: str, content: Any) -> None:
        files.write_atomically(self.path / name, (json.dumps(content, indent=1) + "\n").encode())

    def write_history(self, lines: Iterable[dict[str, Any]], *, name: str = METRICS) -> None:
        files.write_atomically(
            self.path / name, "".join(json.dumps(line) + "\n" for line in lines).encode()
        )

    def _file(self, name: str) -> Path:
        file = self.path / name
        if not os.path.exists(file):  # a name too long for the file system does not exist, for it
            what = (
                "a run folder: a folder that launch.py trained into"
                if os.path.isdir(self.path)
                else "there"
            )
            first = training_command(self.path)
            raise RunError(
                f"{file} is missing; {self.path} is not {what}, or its run has not got that far.{first}"
            )
        self.check_plain()
        return file


def runs_in(paths: Iterable[str | os.PathLike]) -> list[RunFolder]:
    """The runs at the paths: run folders, folders of runs such as studies, and globs of both; each once, in order.

    Raises RunError for a path at which there is none.
    """
    found: dict[Path, RunFolder] = {}
    for path in map(os.path.expanduser, paths):
        # os.path: a name too long for the file system is none, for it
        folders = (
            [Path(path)]
            if os.path.exists(path)
            else [Path(match) for match in sorted(glob.glob(str(path)))]
        )
        configs = [
            file
            for folder in folders
            for file in sorted(folder.glob(CONFIG)) or sorted(folder.glob(f"*/{CONFIG}"))
        ]
        if not configs:
            raise RunError(
                f"{path} is neither a run folder nor a study of runs, nor are there any below it."
            )
        found |= {file.parent: RunFolder(file.parent) for file in configs}
    return list(found.values())
