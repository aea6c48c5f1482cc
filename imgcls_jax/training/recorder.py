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

from imgcls_jax import processes
from imgcls_jax.foreign import open_image, open_to_append
from imgcls_jax.run_folder import METRICS, TENSORBOARD, RunFolder, flat_options

log = logging.getLogger(__name__)

PICTURES = ("samples.png", "confusion.png")  # of the run folder, for TensorBoard
Plain = bool | int | float | str  # what TensorBoard takes as a hyperparameter


class Recorder:
    """Records a run's epochs: their lines are added to `history`, metrics.jsonl and TensorBoard's files.

    A resumed run starts from the `history` of its checkpoint, and the files are written anew from it, whatever they
    held: no step stands there twice. CLU, and with it TensorFlow, is imported by the first line written.
    """

    def __init__(self, run: RunFolder, *, history: list[dict[str, Any]]):
        self._run = run
        self.history = history
        run.write_history(self.history)
        self._tensorboard = None

    def epoch(self, line: dict[str, Any]) -> None:
        """Adds an epoch's line."""
        tensorboard = self.tensorboard if processes.first() else None  # it has the lines before this one
        self.history.append(line)
        if not tensorboard:
            return
        with open_to_append(self._run.path / METRICS) as file:
            file.write((json.dumps(line) + "\n").encode())
        _write_line(tensorboard, line)
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
                {key: value if isinstance(value, Plain) else str(value) for key, value in flat_options(config).items()}
            )
            for line in self.history:
                _write_line(self._tensorboard, line)
        return self._tensorboard

    def close(self) -> None:
        if self._tensorboard is not None:
            self._tensorboard.close()


def _write_line(tensorboard, line: dict[str, Any]) -> None:
    tensorboard.write_scalars(line["step"], {key: line[key] for key in line if key not in ("step", "epoch")})


def _summary_writer(folder: Path):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # which would be announced on the terminal
    from clu import metric_writers

    if tensorflow := sys.modules.get("tensorflow"):
        tensorflow.config.set_visible_devices([], "GPU")  # they are JAX'
    return metric_writers.SummaryWriter(str(folder))


def write_results(run: RunFolder) -> None:
    """Writes a tested run's TensorBoard files anew, with its test figures; so does a second call after a kill."""
    recorder = Recorder(run, history=run.history)
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
            writer.write_images(run.test["best_step"], {Path(name).stem: np.asarray(image.convert("RGB"))[None]})
    writer.close()
    (written,) = partial.iterdir()
    os.replace(written, folder / "events.out.tfevents.pictures")  # TensorBoard reads files whose name has "tfevents"
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
            disable=not (sys.stderr.isatty() and processes.first()),
        )

    def update(self, steps: int, *, loss: float, accuracy: float) -> None:
        rate = self._bar.format_dict.get("rate") or 0.0
        self._bar.set_postfix_str(
            f"loss {loss:.4f}, accuracy {accuracy:.4f}, {rate * self._batch_size:,.0f} images/s", refresh=False
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
