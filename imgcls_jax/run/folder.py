"""The files of a run folder: their names, and how they are read and written."""

import contextlib
import glob
import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from imgcls_jax import distributed, files, foreign
from imgcls_jax.config.options import upgrade
from imgcls_jax.errors import RunError, is_utf8, printable
from imgcls_jax.run import schema
from imgcls_jax.run.lock import FolderLock

log = logging.getLogger(__name__)

CONFIG = "config.json"
ENVIRONMENT = "environment.json"  # versions, device, commit, data fingerprint, weights' hashes
DATA = "data.json"  # the data report
METRICS = "metrics.jsonl"  # a line an epoch
STEPS = "steps.jsonl"  # a line for every so many training steps, which TensorBoard shows
TEST = "test.json"  # scores on the test set and the summary of the training
PREDICTIONS = "predictions.npz"  # probabilities and labels of the test and validation sets
REPORT = "report.html"  # the last file that training writes
CORRECTIONS = "corrections.csv"  # a copy of the file that data.corrections names
TEACHER = "teacher.npz"  # of distillation: the teacher's log probabilities of the training images
CHECKPOINTS = "checkpoints"
EVENTS = "events.out.tfevents."  # begins the names of TensorBoard's files
TRACKER = "tracker.json"  # of train.tracker: the last step that it was given of each figure
MLFLOW = "mlflow.json"  # the id of MLflow's run
OLD_EVENTS = "tensorboard"  # the folder that older versions have them in
PROFILE = "profile"  # the trace of --profile
LOCK = ".lock"  # held by the process that writes into the folder
CLAIM = ".claim"  # held by the process of a study that has the folder's run trained
SHOWN = "show_data.png"  # of imgcls show-data
RANGE_TEST = "find_lr.png"  # of imgcls find-lr
ROBUSTNESS = "robustness.json"  # accuracies under corruptions
UNKNOWN = "unknown.json"  # of imgcls unknown: which images the run does not know
UNKNOWN_FEATURES = (
    "unknown.npz"  # features of validation images, if unknown.json compares with these
)
EXPLANATION = "explain.json"  # the predictions that explain.png explains
ENSEMBLE = "ensemble.json"  # of imgcls ensemble: its members, their weights and its scores
PREDICTED = "predicted.png"  # of imgcls predict: the user's images with their predicted classes
CALIBRATION = "calibration.json"  # calibration errors, and the temperature that lowers them
CALIBRATION_PICTURE = "calibration.png"
EXPORT = "export"  # of imgcls export: the model as files that need no imgcls_jax

Predictions = tuple[np.ndarray, np.ndarray]  # probabilities float32 [N, K], labels int32 [N]


class RunFolder:
    """A run's folder: `RunFolder("runs/mnist_cnn").test["accuracy"]`.

    Properties that read a file raise RunError if it is missing or damaged.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(os.path.expanduser(path))
        self._is_plain = False  # whether `check_plain` has passed
        self._lock: FolderLock | None = None

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def begun(self) -> bool:
        """Whether a checkpoint was saved, which a run of another config would lose."""
        checkpoints = self.path / CHECKPOINTS
        if not checkpoints.is_dir():
            return False
        return any(child.name.isdigit() for child in checkpoints.iterdir())

    @property
    def is_trial(self) -> bool:
        """Whether this is a trial on a share of the images (config.quick), which tables leave out."""
        return (self.path / CONFIG).exists() and bool(self.config.get("quick"))

    @property
    def finished(self) -> bool:
        """Whether training has written everything, its report last, or the run is published."""
        if not self._is_tested:
            return False
        return self.published or (self.path / REPORT).exists()

    @property
    def published(self) -> bool:
        """Whether this is what `imgcls publish` keeps of a run: its results without checkpoints."""
        return self._is_tested and not (self.path / CHECKPOINTS).exists()

    @property
    def _is_tested(self) -> bool:
        return (self.path / TEST).exists() and (self.path / PREDICTIONS).exists()

    @property
    def config(self) -> ConfigDict:
        try:
            return ConfigDict(upgrade(self.read_json(CONFIG)))
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
        """The lines of metrics.jsonl, one dict an epoch, oldest first.

        A last line that was cut off when the process was killed is left out.
        """
        return self._read_lines(METRICS)

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The lines of steps.jsonl; none in folders of versions that did not keep them."""
        if not (self.path / STEPS).exists():
            return []
        return self._read_lines(STEPS)

    @property
    def predictions(self) -> Predictions:
        """The test set's probabilities, float32 [N, K], and labels, int32 [N]."""
        return self._read_test_predictions()

    @property
    def validation_predictions(self) -> Predictions | None:
        """The same of the validation set; None in folders of versions that did not keep them."""
        return self._read_predictions("validation_")

    def require_test_results(self) -> None:
        """Raises RunError if test.json or predictions.npz is missing or damaged."""
        self.read_json(TEST)
        self._read_test_predictions()

    def read_json(self, name: str) -> Any:
        file = self._existing(name)
        return schema.parse(file, _read_text(file))

    def write_json(self, name: str, content: Any) -> None:
        text = json.dumps(content, indent=1) + "\n"
        files.write_atomically(self.path / name, text.encode())

    def write_history(self, lines: Iterable[dict[str, Any]], *, name: str = METRICS) -> None:
        text = "".join(json.dumps(line) + "\n" for line in lines)
        files.write_atomically(self.path / name, text.encode())

    def write_predictions(self, test: Predictions, validation: Predictions | None) -> None:
        """Writes predictions.npz: arrays of the test set, and of the validation set if given."""
        probabilities, labels = test
        arrays = {"probabilities": probabilities, "labels": labels}
        if validation is not None:
            probabilities, labels = validation
            arrays["validation_probabilities"] = probabilities
            arrays["validation_labels"] = labels
        files.write_npz(self.path / PREDICTIONS, **arrays)

    def check_plain(self) -> None:
        """Raises RunError if the folder has anything but files, folders and links within it."""
        if not self._is_plain:
            foreign.check_plain(self.path)
            self._is_plain = self.path.exists()

    def check_writable(self) -> None:
        """Raises RunError if the folder can be neither written nor created."""
        if not is_utf8(str(self.path)):
            raise RunError(
                f"{printable(self.path)} has a name that is not UTF-8. Give another --workdir."
            )
        parents = (self.path, *self.path.absolute().parents)
        files.check_links(parents)
        existing = next(path for path in parents if path.exists())
        if not existing.is_dir():
            raise RunError(
                f"{self.path} cannot be a run folder: {existing} is a file. Give another --workdir."
            )
        if not os.access(existing, os.W_OK | os.X_OK):
            raise RunError(
                f"{self.path} cannot be written: {existing} is read-only for this user. "
                "Give another --workdir, or make it writable."
            )

    @contextlib.contextmanager
    def locked(self, *, patience: float = 0.0, shared: bool = False) -> Iterator[None]:
        """Keeps other processes from writing into this folder, which is created if needed.

        A command takes the lock first and then decides what there is to do, since another process
        may have changed the folder before. Files that killed processes left half written are
        removed. A folder that was created for this and stayed empty is removed at the end.

        patience: seconds to wait for another process to finish. shared: other processes may take
        the lock as well if they share it, as those that train one study do. Raises RunError if
        another process does not finish, if there is no room left to write, or if the folder is
        renamed or deleted meanwhile. Of the processes of one training only the first takes the
        lock.
        """
        if not distributed.is_primary():
            yield
            return
        self.check_writable()
        is_new = self.is_new
        self.check_plain()
        with (
            files.writing(self.path),
            FolderLock(self.path / LOCK, patience=patience, shared=shared) as lock,
        ):
            self._lock = lock
            for folder in (self.path, self.path / EXPORT):
                files.sweep(folder, files.ANY_PARTIAL)
            try:
                yield
            except Exception as error:  # any error may follow from the folder's being gone
                self.check_there(error)
                raise
            finally:
                self._remove_leftovers(lock, is_new=is_new)
                self._lock = None

    @contextlib.contextmanager
    def unchanged(self) -> Iterator[None]:
        """Locks the folder while several of its files are read, if it can be written at all."""
        if os.access(self.path, os.W_OK | os.X_OK):
            with self.locked():
                yield
        else:
            yield

    def check_there(self, cause: Exception | None = None) -> None:
        """Raises RunError, from `cause`, if the locked folder was renamed or deleted."""
        if self._lock is not None:
            self._lock.check_in_place(cause)

    @property
    def is_new(self) -> bool:
        """Whether there is no folder, or one that was created for a claim."""
        with contextlib.suppress(FileNotFoundError):
            return [child.name for child in self.path.iterdir()] == [CLAIM]
        return True

    def _remove_leftovers(self, lock: FolderLock, *, is_new: bool) -> None:
        """Removes a new folder that stayed empty, and what was written where one was renamed."""
        with contextlib.suppress(OSError):
            if not lock.is_in_place:
                files.remove_while(self.path, self._is_left_over)
            elif is_new and set(os.listdir(self.path)) <= {LOCK, CLAIM} and lock.is_only_one():
                (self.path / LOCK).unlink()
                self.path.rmdir()

    def _is_left_over(self) -> bool:
        """Whether there is only what training writes into a folder that is no longer there."""
        names = {name for name in os.listdir(self.path) if not name.startswith(EVENTS)}
        return names <= {CHECKPOINTS, METRICS, STEPS}

    def _existing(self, name: str) -> Path:
        """The path of a file. Raises RunError if it is missing."""
        file = self.path / name
        if not os.path.exists(file):  # unlike Path.exists, false for a name that is too long
            expected = "there"
            if os.path.isdir(self.path):
                expected = "a run folder: a folder that launch.py trained into"
            raise RunError(
                f"{file} is missing; {self.path} is not {expected}, or its run has not got that "
                f"far.{training_command(self.path)}"
            )
        self.check_plain()
        return file

    def _read_lines(self, name: str) -> list[dict[str, Any]]:
        file = self._existing(name)
        complete = _read_text(file).split("\n")[:-1]
        return [schema.parse(file, line) for line in complete]

    def _read_test_predictions(self) -> Predictions:
        predictions = self._read_predictions("")
        if predictions is None:
            file = self.path / PREDICTIONS
            raise RunError(f"{file} has no probabilities and labels of the test set.")
        return predictions

    def _read_predictions(self, prefix: str) -> Predictions | None:
        file = self._existing(PREDICTIONS)
        arrays = _read_arrays(file, prefix)
        if arrays is None:
            return None
        probabilities, labels = arrays
        _check_predictions(file, probabilities, labels)
        return probabilities.astype(np.float32), labels  # published ones are float16


def runs_in(
    paths: Iterable[str | os.PathLike], *, marks: Sequence[str] = (CONFIG,)
) -> list[RunFolder]:
    """Returns the runs at the paths, each once and in order.

    A path is a run folder, a folder of runs such as a study's, or a glob of these. marks: files of
    which a run folder has one. Raises RunError if there is no run at one of the paths.
    """
    runs: dict[Path, RunFolder] = {}
    for path in paths:
        folders = _run_folders(os.path.expanduser(path), marks)
        if not folders:
            raise RunError(
                f"{path} is neither a run folder nor a study of runs, nor are there any below it."
            )
        for folder in folders:
            runs.setdefault(folder, RunFolder(folder))
    return list(runs.values())


def without_trials(runs: Sequence[RunFolder]) -> list[RunFolder]:
    """Returns the runs without the trials, which are logged. Raises RunError if none is left."""
    trials = [run for run in runs if run.is_trial]
    if not trials:
        return list(runs)
    paths = ", ".join(str(run.path) for run in trials)
    if len(trials) == len(runs):
        raise RunError(
            f"{paths}: trials on a share of the images. Train without --config.quick for results."
        )
    log.warning("Left out, since trials on a share of the images: %s.", paths)
    return [run for run in runs if not run.is_trial]


def training_command(path: str | os.PathLike) -> str:
    """A sentence on how to train the run missing at the path; "" if no config has its name."""
    config = os.path.join("configs", f"{Path(path).name}.py")
    if not os.path.isfile(config):
        return ""
    return f" Train it first: python launch.py --config {config}."


def _run_folders(path: str, marks: Sequence[str]) -> list[Path]:
    matches = [path]
    if not os.path.exists(path):  # unlike Path.exists, false for a name that is too long
        matches = sorted(glob.glob(path))
    folders = []
    for folder in map(Path, matches):
        if any((folder / mark).exists() for mark in marks):
            folders.append(folder)
        else:
            inner = {file.parent for mark in marks for file in folder.glob(f"*/{mark}")}
            folders += sorted(inner)
    return folders


def _read_text(file: Path) -> str:
    try:
        with foreign.open_regular(file) as stream:
            content = stream.read(schema.MAX_BYTES + 1)
        if len(content) > schema.MAX_BYTES:
            raise ValueError(f"it has more than {schema.MAX_BYTES:,} bytes")
        return content.decode()
    except (OSError, ValueError) as error:
        raise schema.damaged(file, error) from error


def _read_arrays(file: Path, prefix: str) -> tuple[np.ndarray, np.ndarray] | None:
    """The probabilities and labels whose names have the prefix; None if there are none."""
    try:
        with foreign.open_npz(file) as arrays:
            if f"{prefix}labels" not in arrays:
                return None
            return arrays[f"{prefix}probabilities"], arrays[f"{prefix}labels"]
    except Exception as error:  # a damaged file can raise nearly anything
        raise schema.damaged(file, error) from error


def _check_predictions(file: Path, probabilities: np.ndarray, labels: np.ndarray) -> None:
    """Raises RunError unless these are finite probabilities [N, K] and labels [N] below K."""
    is_float = probabilities.dtype.kind == "f"
    if is_float and not np.isfinite(probabilities).all():
        raise RunError(
            f"{file} has probabilities that are not finite: the training diverged, or the file is "
            "damaged. Train again with a lower learning rate, under another --config.name."
        )
    has_kinds = is_float and labels.dtype.kind == "i"
    has_dimensions = probabilities.ndim == 2 and labels.ndim == 1
    if has_kinds and has_dimensions and 0 < len(labels) == len(probabilities):
        num_classes = probabilities.shape[1]
        if labels.min() >= 0 and labels.max() < num_classes:
            return
    raise RunError(
        f"{file} is damaged: it should hold probabilities [N, K], and labels [N] below K."
    )
