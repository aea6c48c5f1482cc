"""What a run says while it trains: progress on the terminal, metrics.jsonl, TensorBoard."""

import json
import logging
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from imgcls_jax import distributed
from imgcls_jax.config.options import flat_options
from imgcls_jax.errors import RunError
from imgcls_jax.foreign import open_image, open_to_append
from imgcls_jax.run.folder import EVENTS, METRICS, OLD_EVENTS, STEPS, RunFolder
from imgcls_jax.training import metrics, trackers

if TYPE_CHECKING:
    from imgcls_jax.training.event_files import EventWriter

log = logging.getLogger(__name__)

PICTURES = ("samples.png", "confusion.png")  # of the run folder, for TensorBoard
PARTIAL = ".pictures.partial"  # the folder that the pictures are written in
SPLITS = ("train", "validation")
MAX_POINTS = 2000  # of a curve by training steps
Scalar = bool | int | float | str  # what TensorBoard takes as a hyperparameter


class Recorder:
    """Records a run's epochs in `history`, metrics.jsonl and TensorBoard's files.

    TensorBoard calls a run after the folder of its files, so they are in the run's folder itself.
    It sorts charts by name: those of accuracy and loss are first, then the single steps, then the
    rest as "training".

    Between epochs steps.jsonl and TensorBoard get the metrics of single training steps, of at most
    MAX_POINTS of the `total_steps` that the run may have. A resumed run starts from the `history` and
    the `step` of its checkpoint, and the files are written again up to there, whatever they held: no
    step is in them twice. The tensorboard package is imported by the first line written; with a
    tracker at once, so that one which cannot be opened ends the run before it trains.
    """

    def __init__(
        self, run: RunFolder, history: list[dict[str, Any]], *, step: int, total_steps: int
    ):
        self._run = run
        self.history = history
        run.write_history(self.history)
        self._points = _read_points(run, step) if distributed.is_primary() else []
        run.write_history(self._points, name=STEPS)
        self._num_written = 0  # of the points, to TensorBoard
        self._interval = max(-(-total_steps // MAX_POINTS), 1)
        self._tensorboard = None
        if distributed.is_primary() and run.config.train.tracker:
            self._open()

    def steps(self, step: int, means: dict[str, np.ndarray]) -> None:
        """Records a dispatch: each metric's mean in its steps, [count], of which `step` is the last."""
        if not distributed.is_primary():
            return
        points = []
        first = step - len(means["loss"]) + 1
        for number in range(first, step + 1):
            if number % self._interval == 0:
                values = {name: float(mean[number - first]) for name, mean in means.items()}
                points.append({"step": number, **values})
        if points:
            self._points += points
            self._append(STEPS, points)

    def _append(self, name: str, lines: list[dict[str, Any]]) -> None:
        with open_to_append(self._run.path / name) as file:
            for line in lines:
                file.write((json.dumps(line) + "\n").encode())

    def epoch(self, line: dict[str, Any]) -> None:
        """Adds an epoch's line."""
        if not distributed.is_primary():
            self.history.append(line)
            return
        tensorboard = self.tensorboard  # the first use writes the lines before this one
        self.history.append(line)
        self._append(METRICS, [line])
        self._write_epoch(line)
        tensorboard.flush()

    def results(self, test: dict[str, Any]) -> None:
        """Adds figures of test.json, at the step whose weights they are of.

        The HPARAMS tab shows all scalars.
        """
        scalars = {}
        for name in metrics.METRICS:
            if name in test:
                scalars[f"{name}/test"] = test[name]
            if f"validation_{name}" in test:
                scalars[f"{name}/kept_validation"] = test[f"validation_{name}"]
        self.tensorboard.write_scalars(test["best_step"], scalars)

    @property
    def tensorboard(self):
        """The writer of TensorBoard's files; the first use writes the lines of `history` again."""
        if self._tensorboard is None:
            self._open()
        return self._tensorboard

    def _open(self) -> None:
        _remove_events(self._run.path)
        self._tensorboard = _open_writer(self._run)
        config = self._run.config
        self._tensorboard.write_texts(0, {"config": f"```\n{config}\n```"})
        self._tensorboard.write_hparams(_hyperparameters(config))
        for line in self.history:
            self._write_epoch(line)

    def _write_epoch(self, line: dict[str, Any]) -> None:
        """Writes an epoch's line, after the points of its steps, so that steps never go backwards."""
        self._write_points(line["step"])
        left_out = {"step", "epoch"}
        if not self._run.config.adapt.phases:
            left_out.add("phase")
        self._tensorboard.write_scalars(line["step"], _epoch_scalars(line, left_out))

    def _write_points(self, step: int) -> None:
        """Writes the points up to a step that are not written yet."""
        for point in self._points[self._num_written :]:
            if point["step"] > step:
                return
            scalars = {f"steps/{name}": v for name, v in point.items() if name != "step"}
            self._tensorboard.write_scalars(point["step"], scalars)
            self._num_written += 1

    def close(self) -> None:
        if self._tensorboard is not None:
            self._tensorboard.close()


def _epoch_scalars(line: dict[str, Any], left_out: set[str]) -> dict[str, float]:
    """Returns the figures of an epoch's line by their names in TensorBoard."""
    scalars = {}
    metric_names = set()
    for split in SPLITS:
        for name, mean in metrics.without_prefix(f"{split}_", line).items():
            scalars[f"{name}/{split}"] = mean
            metric_names.add(f"{split}_{name}")
    for name, value in line.items():
        if name not in metric_names | left_out:
            scalars[f"training/{name}"] = value
    return scalars


def _remove_events(folder: Path) -> None:
    """Removes TensorBoard's files from a run folder."""
    for file in folder.glob(f"{EVENTS}*"):
        file.unlink(missing_ok=True)
    for name in (OLD_EVENTS, PARTIAL):
        shutil.rmtree(folder / name, ignore_errors=True)


def _hyperparameters(config) -> dict[str, Scalar]:
    """Returns the options of a config by path, as TensorBoard's HPARAMS tab takes them."""
    options = {}
    for path, value in flat_options(config).items():
        options[path] = value if isinstance(value, Scalar) else str(value)
    return options


def _read_points(run: RunFolder, step: int) -> list[dict[str, Any]]:
    """Returns the lines of steps.jsonl up to a step.

    They are for curves alone: if they are damaged, training goes on without them.
    """
    try:
        return [point for point in run.steps if point["step"] <= step]
    except RunError as error:
        log.warning("%s The curves by steps begin at step %d.", error, step)
        return []


def _open_writer(run: RunFolder, events_folder: Path | None = None):
    """Returns the writer of TensorBoard's files, and of `train.tracker` if there is one.

    events_folder: where TensorBoard's files are written; None for the run's folder.
    """
    tensorboard = _event_writer(events_folder or run.path)
    config = run.config
    if not config.train.tracker:
        return tensorboard
    from clu import metric_writers  # with TensorFlow

    tracker = trackers.Tracker(run, _hyperparameters(config))
    return metric_writers.MultiWriter([tensorboard, tracker])


def _event_writer(folder: Path) -> "EventWriter":
    from imgcls_jax.training.event_files import EventWriter

    return EventWriter(folder)


def write_results(run: RunFolder) -> None:
    """Writes a tested run's TensorBoard files again, with its test figures.

    It may be called again after a kill.
    """
    history = run.history
    last_step = history[-1]["step"]
    recorder = Recorder(run, history, step=last_step, total_steps=last_step)
    recorder.results(run.test)
    recorder.close()


def write_pictures(run: RunFolder) -> None:
    """Adds pictures of a tested run to its TensorBoard files, as one file that is whole or not there."""
    partial = run.path / PARTIAL
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    writer = _open_writer(run, partial)
    for name in PICTURES:
        with open_image(run.path / name, ("PNG",)) as image:
            pixels = np.asarray(image.convert("RGB"))
        writer.write_images(run.test["best_step"], {Path(name).stem: pixels[None]})
    writer.close()
    (events,) = partial.iterdir()
    os.replace(events, run.path / f"{EVENTS}pictures")
    partial.rmdir()


class EpochProgress:
    """A progress bar over an epoch's steps on a terminal; elsewhere only the line at its end."""

    def __init__(self, *, epoch: int, epochs: int, steps: int, done: int, batch_size: int):
        self._batch_size = batch_size
        self._bar = tqdm(
            total=steps,
            initial=done,
            desc=f"epoch {epoch}/{epochs}",
            unit="step",
            leave=False,
            file=sys.stderr,
            disable=not (sys.stderr.isatty() and distributed.is_primary()),
        )

    def update(self, steps: int, means: dict[str, float]) -> None:
        """Counts steps, and shows the metrics of the epoch so far."""
        rate = self._bar.format_dict.get("rate") or 0.0
        text = f"{_text(means)}, {rate * self._batch_size:,.0f} images/s"
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update(steps)

    def close(self) -> None:
        self._bar.close()


def log_epoch(line: dict[str, Any], *, epochs: int, is_best: bool) -> None:
    """Logs an epoch's line of metrics.jsonl. epochs: of the whole training, at most."""
    log.info(
        "epoch %d/%d  train %s  validation %s%s  rate %.2g  %.1f s, %s images/s",
        line["epoch"],
        epochs,
        _text(metrics.without_prefix("train_", line)),
        _text(metrics.without_prefix("validation_", line)),
        " (best)" if is_best else "",
        line["learning_rate"],
        line["seconds"],
        f"{line['images_per_second']:,.0f}",
    )


def _text(means: dict[str, float]) -> str:
    return " ".join(f"{name} {mean:.4f}" for name, mean in means.items())
