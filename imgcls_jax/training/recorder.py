"""What a run says while it trains: progress on the terminal, metrics.jsonl, TensorBoard's files by CLU."""

import json
import logging
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from imgcls_jax import distributed
from imgcls_jax.config.options import flat_options
from imgcls_jax.errors import RunError
from imgcls_jax.foreign import open_image, open_to_append
from imgcls_jax.run.folder import METRICS, STEPS, TENSORBOARD, RunFolder

log = logging.getLogger(__name__)

PICTURES = ("samples.png", "confusion.png")  # of the run folder, for TensorBoard
MOST_POINTS = 2000  # of a curve by training steps
Plain = bool | int | float | str  # what TensorBoard takes as a hyperparameter


class Recorder:
    """Records a run's epochs: their lines are added to `history`, metrics.jsonl and TensorBoard's files.

    Between them steps.jsonl and TensorBoard get loss and accuracy of single training steps, of at most MOST_POINTS of
    the `total_steps` that the run may have. A resumed run starts from the `history` and the `step` of its checkpoint,
    and the files are written again from what was up to there, whatever they held: no step is in them twice. CLU, and
    with it TensorFlow, is imported by the first line written.
    """

    def __init__(
        self, run: RunFolder, *, history: list[dict[str, Any]], step: int, total_steps: int
    ):
        self._run = run
        self.history = history
        run.write_history(self.history)
        self._points = _points(run, step) if distributed.is_primary() else []
        run.write_history(self._points, name=STEPS)
        self._every = max(-(-total_steps // MOST_POINTS), 1)
        self._tensorboard = None

    def steps(self, step: int, losses: np.ndarray, accuracies: np.ndarray) -> None:
        """Records a dispatch: the figures of its steps, of which `step` is the last."""
        if not distributed.is_primary():
            return
        numbers = range(step - len(losses) + 1, step + 1)
        points = [
            {"step": number, "loss": float(loss), "accuracy": float(accuracy)}
            for number, loss, accuracy in zip(numbers, losses, accuracies, strict=True)
            if number % self._every == 0
        ]
        if points:
            self._points += points
            self._append(STEPS, points)

    def _append(self, name: str, lines: list[dict[str, Any]]) -> None:
        with open_to_append(self._run.path / name) as file:
            file.writelines((json.dumps(line) + "\n").encode() for line in lines)

    def epoch(self, line: dict[str, Any]) -> None:
        """Adds an epoch's line."""
        tensorboard = (
            self.tensorboard if distributed.is_primary() else None
        )  # it has the lines before this one
        self.history.append(line)
        if not tensorboard:
            return
        self._append(METRICS, [line])
        self._write(line)
        tensorboard.flush()

    def results(self, test: dict[str, Any]) -> None:
        """Adds figures of test.json, at the step whose weights they are of. The HPARAMS tab takes up all scalars."""
        figures = {f"test_{key}": test[key] for key in ("accuracy", "loss")}
        kept = {f"kept_{key}": test[key] for key in ("validation_accuracy", "validation_loss")}
        self.tensorboard.write_scalars(test["best_step"], figures | kept)

    @property
    def tensorboard(self):
        """CLU's writer of TensorBoard's files; the first use writes them anew, with the lines of `history`."""
        if self._tensorboard is None:
            shutil.rmtree(self._run.path / TENSORBOARD, ignore_errors=True)
            self._tensorboard = _summary_writer(self._run.path / TENSORBOARD)
            config = self._run.config
            self._tensorboard.write_texts(0, {"config": f"```\n{config}\n```"})
            self._tensorboard.write_hparams(
                {
                    key: value if isinstance(value, Plain) else str(value)
                    for key, value in flat_options(config).items()
                }
            )
            self._shown = 0  # of the points
            for line in self.history:
                self._write(line)
        return self._tensorboard

    def _write(self, line: dict[str, Any]) -> None:
        """An epoch's line, after the points of its steps, so that steps never go backwards."""
        self._write_points(line["step"])
        figures = {key: figure for key, figure in line.items() if key not in ("step", "epoch")}
        self._tensorboard.write_scalars(line["step"], figures)

    def _write_points(self, step: int) -> None:
        while self._shown < len(self._points) and self._points[self._shown]["step"] <= step:
            point = self._points[self._shown]
            figures = {f"iteration/{key}": point[key] for key in ("loss", "accuracy")}
            self._tensorboard.write_scalars(point["step"], figures)
            self._shown += 1

    def close(self) -> None:
        if self._tensorboard is not None:
            self._tensorboard.close()


def _points(run: RunFolder, step: int) -> list[dict[str, Any]]:
    """The lines of steps.jsonl up to a step. They are for curves alone: where they are damaged training goes on."""
    try:
        return [point for point in run.steps if point["step"] <= step]
    except RunError as error:
        log.warning("%s The curves by steps begin at step %d.", error, step)
        return []


def _summary_writer(folder: Path):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # which would be announced on the terminal
    from clu import metric_writers

    if tensorflow := sys.modules.get("tensorflow"):
        tensorflow.config.set_visible_devices([], "GPU")  # they are JAX'
    return metric_writers.SummaryWriter(str(folder))


def write_results(run: RunFolder) -> None:
    """Writes a tested run's TensorBoard files anew, with its test figures; so does a second call after a kill."""
    history = run.history
    last = history[-1]["step"]
    recorder = Recorder(run, history=history, step=last, total_steps=last)
    recorder.results(run.test)
    recorder.close()


def write_pictures(run: RunFolder) -> None:
    """Adds pictures of a tested run to its TensorBoard files: as one file that is there once, whole, or not at all."""
    folder = run.path / TENSORBOARD
    partial = folder / ".pictures.partial"
    shutil.rmtree(partial, ignore_errors=True)
    writer = _summary_writer(partial)
    for name in PICTURES:
        with open_image(run.path / name, ("PNG",)) as image:
            writer.write_images(
                run.test["best_step"], {Path(name).stem: np.asarray(image.convert("RGB"))[None]}
            )
    writer.close()
    (written,) = partial.iterdir()
    os.replace(
        written, folder / "events.out.tfevents.pictures"
    )  # TensorBoard reads files whose name has "tfevents"
    partial.rmdir()


class EpochProgress:
    """A bar over an epoch's steps where there is a terminal; elsewhere nothing but the epoch's line at its end."""

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

    def update(self, steps: int, *, loss: float, accuracy: float) -> None:
        rate = self._bar.format_dict.get("rate") or 0.0
        self._bar.set_postfix_str(
            f"loss {loss:.4f}, accuracy {accuracy:.4f}, {rate * self._batch_size:,.0f} images/s",
            refresh=False,
        )
        self._bar.update(steps)

    def close(self) -> None:
        self._bar.close()


def log_epoch(line: dict[str, Any], *, epochs: int, best: bool) -> None:
    log.info(
        "epoch %d/%d  train loss %.4f accuracy %.4f  validation loss %.4f accuracy %.4f%s  rate %.2g  "
        "%.1f s, %s images/s",
        line["epoch"],
        epochs,
        line["train_loss"],
        line["train_accuracy"],
        line["validation_loss"],
        line["validation_accuracy"],
        " (best)" if best else "",
        line["learning_rate"],
        line["seconds"],
        f"{line['images_per_second']:,.0f}",
    )
