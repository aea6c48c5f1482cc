"""The training loop: epochs of dispatches, validation, early stopping, the plateau schedule, checkpoints, resuming."""

import dataclasses
import logging
import math
import time
from typing import Any

import numpy as np
from clu import parameter_overview
from ml_collections import ConfigDict

from imgcls_jax import pretrained, trees
from imgcls_jax.checkpoints import Checkpoints, shapes
from imgcls_jax.data import Splits
from imgcls_jax.data.batches import epoch_batches
from imgcls_jax.errors import TrainingError
from imgcls_jax.models import lora
from imgcls_jax.run_folder import CHECKPOINTS, RunFolder
from imgcls_jax.training import recorder, setup, steps
from imgcls_jax.training.interrupt import Interrupted, catch_signals
from imgcls_jax.training.losses import cross_entropy
from imgcls_jax.training.state import Progress, as_trees, from_trees, start_average

log = logging.getLogger(__name__)

SECONDS_PER_DISPATCH = 2.0  # about how long a signal waits at most, and the progress bar


def train(config: ConfigDict, run: RunFolder, data: Splits) -> None:
    """Trains the model of `config` on `data`, or goes on where the run in the folder stopped.

    Leaves checkpoints and metrics.jsonl. Raises Interrupted after SIGTERM or SIGINT, with everything saved, and
    TrainingError where the loss is no longer finite.
    """
    training = _Training(config, run, data)
    try:
        training.run()
    finally:
        training.close()


class _Training:
    """One call of `train`: what its epochs share."""

    def __init__(self, config: ConfigDict, run: RunFolder, data: Splits):
        self.config, self.settings, self.data = config, config.train, data
        self.setup = setup.build(config, data)
        self.schedule, self.steps_per_epoch, state = self.setup.schedule, self.setup.steps_per_epoch, self.setup.state
        log.info("%s", parameter_overview.get_parameter_overview(state.params, include_stats=False))
        trainable, frozen = map(trees.count, self.setup.adaptation.split(state.params))
        if frozen:
            log.info("%s parameters train, %s are frozen.", f"{trainable:,}", f"{frozen:,}")
        self.progress = Progress()
        self.checkpoints = Checkpoints(run.path / CHECKPOINTS)
        history: list[dict[str, Any]] = []
        model_tree, training_tree = map(shapes, as_trees(state))
        if restored := self.checkpoints.restore(model=model_tree, training=training_tree):
            step, model_tree, training_tree, progress = restored
            self.progress = Progress(**progress)
            state = from_trees(state, model_tree, training_tree)
            history = [line for line in run.history if line["epoch"] <= self.progress.epoch]
            log.info("Resuming %s at step %d, epoch %d.", run.path, step, self.progress.epoch + 1)
        elif config.model.get("pretrained"):
            own, pairs = lora.apart(state.params)
            own, model_state = pretrained.initialize(
                config, params=own, model_state=state.model_state, class_names=data.train.class_names
            )
            params = {**own, **pairs}
            state = state.replace(params=params, model_state=model_state)
            if state.average:
                state = state.replace(average=start_average(params, model_state))
        self.state = steps.replicate(state)
        self.train_data, self.validation_images = self._place(data)
        self.pace = math.inf  # seconds that a step of the last dispatch took
        self.recorder = recorder.Recorder(run, history=history)

    def _place(self, data: Splits):
        """The training set and the validation set's images, or their features, on the devices."""
        started = time.perf_counter()
        placed = self.setup.place(self.state, data.train), self.setup.place(self.state, data.validation)[0]
        if self.setup.embed:
            log.info(
                "Nothing of the features is trained or random: computed once for %d images, in %.1f s.",
                len(data.train) + len(data.validation),
                time.perf_counter() - started,
            )
        return placed

    def run(self) -> None:
        with catch_signals() as interrupt:
            while self.progress.epoch < self.settings.epochs and not self.progress.stopped:
                self._epoch(interrupt)

    def close(self) -> None:
        self.checkpoints.close()
        self.recorder.close()

    def _epoch(self, interrupt) -> None:
        """Trains what is left of the epoch begun, validates, takes the decisions of its end, and saves."""
        progress, size = self.progress, self.settings.batch_size
        batches = epoch_batches(len(self.data.train), size, seed=self.config.seed, epoch=progress.epoch)
        bar = recorder.EpochProgress(
            epoch=progress.epoch + 1,
            epochs=self.settings.epochs,
            steps=self.steps_per_epoch,
            done=progress.step_in_epoch,
            batch_size=size,
        )
        most = min(self.settings.steps_per_dispatch, self.steps_per_epoch)
        while progress.step_in_epoch < self.steps_per_epoch:
            started = time.perf_counter()
            count = min(max(int(SECONDS_PER_DISPATCH / self.pace), 1), most)
            chosen = batches[progress.step_in_epoch : progress.step_in_epoch + count]
            self.state, stacked = self.setup.train(self.state, self.train_data, steps.split(chosen, most), len(chosen))
            losses, correct = _per_step(stacked, len(chosen))
            self._check_finite(losses)
            progress.step_in_epoch += len(chosen)
            for loss in losses:  # one by one: the sum's rounding must not depend on how many steps a dispatch has
                progress.loss_sum += float(loss) * size
            progress.correct += float(correct.sum())
            seconds = time.perf_counter() - started
            progress.seconds += seconds
            self.pace = seconds / len(chosen)
            seen = progress.step_in_epoch * size
            bar.update(len(chosen), loss=progress.loss_sum / seen, accuracy=progress.correct / seen)
            if interrupt.received and progress.step_in_epoch < self.steps_per_epoch:
                bar.close()
                self._save()
                raise Interrupted(interrupt.received)
        bar.close()
        self._finish_epoch()
        if interrupt.received:
            raise Interrupted(interrupt.received)

    def _finish_epoch(self) -> None:
        progress, state = self.progress, self.state
        loss, accuracy = self._validate()
        step, seen = self._step(), self.steps_per_epoch * self.settings.batch_size
        improved = self._decide(loss if self.settings.monitor == "loss" else -accuracy, step)
        line = {
            "epoch": progress.epoch,
            "step": step,
            "train_loss": progress.loss_sum / seen,
            "train_accuracy": progress.correct / seen,
            "validation_loss": loss,
            "validation_accuracy": accuracy,
            "learning_rate": float(self.schedule(step - 1)) * float(steps.fetch(state.rate_scale)),
            "seconds": progress.seconds,
            "images_per_second": seen / progress.seconds,
        }
        progress.step_in_epoch, progress.loss_sum, progress.correct, progress.seconds = 0, 0.0, 0.0, 0.0
        self._lower_rate()
        self.recorder.epoch(line)
        self._save()
        recorder.log_epoch(line, epochs=self.settings.epochs, best=improved)
        if progress.stopped:
            log.info(
                "Stopped early: no better %s on validation for %d epochs.", self.settings.monitor, progress.stale_epochs
            )

    def _decide(self, figure: float, step: int) -> bool:
        """Counts the epoch, whose validation figure is the lower the better; returns whether it is the best so far."""
        progress = self.progress
        progress.epoch += 1
        improved = math.isfinite(figure) and (progress.best is None or figure < progress.best)
        if improved:
            progress.best, progress.best_epoch, progress.best_step = figure, progress.epoch, step
        progress.stale_epochs = 0 if improved else progress.stale_epochs + 1
        progress.plateau_epochs = 0 if improved else progress.plateau_epochs + 1
        progress.stopped = 0 < self.settings.early_stopping <= progress.stale_epochs
        return improved

    def _lower_rate(self) -> None:
        """The plateau schedule: after `patience` epochs without improvement the rate falls by `factor`."""
        schedule = self.config.schedule
        if schedule.name != "plateau" or self.progress.plateau_epochs < schedule.patience:
            return
        self.progress.plateau_epochs = 0
        lowest = schedule.min_rate / self.config.optimizer.learning_rate
        scale = max(float(steps.fetch(self.state.rate_scale)) * schedule.factor, lowest)
        self.state = self.state.replace(rate_scale=steps.replicate(np.float32(scale)))
        log.info("The learning rate falls to %.2g.", scale * self.config.optimizer.learning_rate)

    def _validate(self) -> tuple[float, float]:
        """Mean loss and accuracy on the validation set."""
        logits = self.setup.predict(setup.variables(self.state), self.validation_images)
        labels = self.data.validation.labels
        losses = np.asarray(cross_entropy(logits, labels), np.float64)
        return float(losses.mean()), float((logits.argmax(-1) == labels).mean())

    def _check_finite(self, losses: np.ndarray) -> None:
        if np.isfinite(losses).all():
            return
        bad = int(np.flatnonzero(~np.isfinite(losses))[0])
        step = self._step() - len(losses) + bad
        rate = float(self.schedule(step)) * float(steps.fetch(self.state.rate_scale))
        last = self.progress.epoch
        kept = f"its last good checkpoint is that of epoch {last}" if last else "it had saved no checkpoint yet"
        raise TrainingError(
            f"The loss is {losses[bad]} at step {step + 1} (epoch {last + 1}, learning rate {rate:.3g}): training "
            f"stopped; {kept}. A lower --config.optimizer.learning_rate, --config.schedule.warmup_epochs=1 or "
            "--config.optimizer.clip_norm=1. would be the first things to try."
        )

    def _step(self) -> int:
        return int(steps.fetch(self.state.step))

    def _save(self) -> None:
        model, training = steps.fetch(as_trees(self.state))
        self.checkpoints.save(
            int(training["step"]), model=model, training=training, progress=dataclasses.asdict(self.progress)
        )


def _per_step(stacked: steps.Metrics, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean loss and number of correct examples, float64 [count] each, of a dispatch's metrics."""
    stacked = steps.fetch(stacked)
    loss, accuracy = stacked.loss, stacked.accuracy
    losses = loss.total[:count].astype(np.float64) / loss.count[:count]
    return losses, accuracy.total[:count].astype(np.float64)
