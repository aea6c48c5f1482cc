"""The training loop: epochs of dispatches, validation, early stopping, the plateau schedule, checkpoints, resuming."""

import dataclasses
import logging
import math
import time
from typing import Any

import numpy as np
from clu import parameter_overview
from ml_collections import ConfigDict

from imgcls_jax import distributed, trees
from imgcls_jax.config import reads
from imgcls_jax.data import Splits
from imgcls_jax.data.batches import epoch_batches
from imgcls_jax.run.checkpoints import Checkpoints, shapes
from imgcls_jax.run.folder import CHECKPOINTS, RunFolder
from imgcls_jax.training import divergence, features, plan, recorder, setup, steps
from imgcls_jax.training.interrupt import Interrupted, catch_signals
from imgcls_jax.training.losses import cross_entropy
from imgcls_jax.training.state import (
    Progress,
    TrainState,
    as_plain,
    as_trees,
    from_trees,
    trees_of_checkpoint,
)

log = logging.getLogger(__name__)

SECONDS_PER_DISPATCH = 2.0  # about how long a signal waits at most, and the progress bar


def train(config: ConfigDict, run: RunFolder, data: Splits) -> None:
    """Trains the model of `config` on `data`, or goes on where the run in the folder stopped.

    Leaves checkpoints and metrics.jsonl. Raises Interrupted after SIGTERM or SIGINT, with everything saved, and
    TrainingError where the loss is no longer finite, or that on validation never was.
    """
    training = _Training(config, run, data)
    for sentence in reads.unread(config) if not training.progress.history else ():
        log.info("%s", sentence)
    try:
        training.run()
    finally:
        training.close()


class _Training:
    """One call of `train`: what its epochs share. Of several processes the first one alone has `checkpoints`."""

    def __init__(self, config: ConfigDict, run: RunFolder, data: Splits):
        self.config, self.settings, self.data, self.folder = config, config.train, data, run
        self.monitor, self.most_steps = config.train.monitor, config.train.steps_per_dispatch
        self.phases = setup.build(config, data)
        self.epochs = sum(phase.config.train.epochs for phase in self.phases)  # at most
        self.checkpoints = Checkpoints(run.path / CHECKPOINTS) if distributed.is_primary() else None
        self.pace = math.inf  # seconds that a step of the last dispatch took
        begun = distributed.from_primary(lambda: as_plain(*self._beginning(run)))
        self.progress = Progress(**begun["progress"])
        self.state = steps.replicate(self.phase.state.with_leaves(begun["leaves"]), to_donate=True)
        self._begin()
        total = sum(phase.config.train.epochs * phase.steps_per_epoch for phase in self.phases)
        done = {"history": self.progress.history, "step": self._step()}
        self.recorder = recorder.Recorder(run, **done, total_steps=total)

    def _beginning(self, run: RunFolder) -> tuple[TrainState, Progress]:
        """The state to start from, and what was done up to there."""
        state = self.phases[0].state
        if restored := self.checkpoints.restore(self._expected):
            step, model_tree, training_tree, saved = restored
            progress = Progress.of_checkpoint(saved, run)
            log.info("Resuming %s at step %d, epoch %d.", run.path, step, progress.epoch + 1)
            return from_trees(
                self.phases[progress.phase].state, model_tree, training_tree
            ), progress
        if self.config.model.get("pretrained"):
            state = setup.with_pretrained(
                state, self.config, class_names=self.data.train.class_names
            )
        return state, Progress()

    @property
    def phase(self) -> setup.Setup:
        """Of the phase under way."""
        return self.phases[self.progress.phase]

    def _expected(self, progress: dict[str, Any]) -> dict[str, Any]:
        """The trees of a checkpoint with this progress, as shapes."""
        model, training = trees_of_checkpoint(self.phases[progress.get("phase", 0)].state, progress)
        return {"model": shapes(model), "training": shapes(training)}

    def _begin(self) -> None:
        """Puts on the devices what the phase under way trains on, and says what it is."""
        plan.say(self.phases, self.progress.phase, self.data)
        trainable, frozen = map(trees.flatten, self.phase.adaptation.split(self.state.params))
        log.info(
            "Trainable:\n%s",
            parameter_overview.get_parameter_overview(trainable, include_stats=False),
        )
        if frozen:
            log.info(
                "Frozen: %s -- %s trainable",
                f"{trees.count(frozen):,}",
                f"{trees.count(trainable):,}",
            )
        self.train_data, self.feature_seconds = self.phase.place(self.state, self.data.train)
        (self.validation_images, _), seconds = self.phase.place(self.state, self.data.validation)
        if self.phase.embed:
            seconds += self.feature_seconds
            log.info(
                "Nothing of the features is trained or random: they are computed once, in %.1f s.",
                seconds,
            )

    def _end(self) -> None:
        """Says what the features computed once have spared, and begins the next phase, if any."""
        progress = self.progress
        if self.phase.embed:
            own = [
                line["seconds"]
                for line in self.recorder.history
                if line["phase"] == progress.phase + 1
            ]
            log.info("%s", features.spared(own, self.feature_seconds))
        if progress.phase + 1 < len(self.phases):
            progress.phase += 1
            progress.phase_epochs, progress.stale_epochs, progress.plateau_epochs = 0, 0, 0
            progress.stopped = False
            self.state = steps.replicate(self.phase.begin(self.state), to_donate=True)
            self._begin()

    def run(self) -> None:
        with catch_signals() as interrupt:
            while not self._over():
                self._epoch(interrupt)
        divergence.check_end(self.progress, self.recorder.history)

    def _over(self) -> bool:
        """Whether the phase under way has ended; after another one begins at once, so has the training."""
        return self.progress.stopped or self.progress.phase_epochs >= self.phase.config.train.epochs

    def close(self) -> None:
        if self.checkpoints:
            self.checkpoints.close()
        self.recorder.close()

    def _epoch(self, interrupt) -> None:
        """Trains what is left of the epoch begun, validates, takes the decisions of its end, and saves."""
        progress, size = self.progress, self.settings.batch_size
        batches = epoch_batches(
            len(self.data.train), size, seed=self.config.seed, epoch=progress.epoch
        )
        steps_per_epoch = self.phase.steps_per_epoch
        bar = recorder.EpochProgress(
            epoch=progress.epoch + 1,
            epochs=self.epochs,
            steps=steps_per_epoch,
            done=progress.step_in_epoch,
            batch_size=size,
        )
        most = min(self.most_steps, steps_per_epoch)
        feed = steps.Feed(self.train_data, batches[progress.step_in_epoch :], most=most)
        while progress.step_in_epoch < steps_per_epoch:
            started = time.perf_counter()
            count = min(max(int(SECONDS_PER_DISPATCH / self.pace), 1), feed.ready())
            self.state, stacked = self.phase.train(self.state, *feed.take(count))
            losses, correct = steps.per_step(stacked, count)
            self._check_finite(losses)
            self.folder.check_there()
            self.recorder.steps(self._step(), losses, correct / size)
            progress.step_in_epoch += count
            for loss in (
                losses
            ):  # one by one: the sum's rounding must not depend on how many steps a dispatch has
                progress.loss_sum += float(loss) * size
            progress.correct += float(correct.sum())
            seconds = time.perf_counter() - started
            progress.seconds += seconds
            self.pace = distributed.global_max(seconds / count)
            seen = progress.step_in_epoch * size
            bar.update(count, loss=progress.loss_sum / seen, accuracy=progress.correct / seen)
            asked = int(distributed.global_max(interrupt.received))
            if asked and progress.step_in_epoch < steps_per_epoch:
                bar.close()
                self._save()
                raise Interrupted(asked)
        bar.close()
        self._finish_epoch()
        if asked := int(distributed.global_max(interrupt.received)):
            raise Interrupted(asked)

    def _finish_epoch(self) -> None:
        progress = self.progress
        loss, accuracy = self._validate()
        step, seen = self._step(), self.phase.steps_per_epoch * self.settings.batch_size
        figure = loss if self.monitor == "loss" else -accuracy
        improved = self._decide(figure if math.isfinite(loss) else math.nan, step)
        line = {
            "epoch": progress.epoch,
            "step": step,
            "train_loss": progress.loss_sum / seen,
            "train_accuracy": progress.correct / seen,
            "validation_loss": loss,
            "validation_accuracy": accuracy,
            "learning_rate": self._rate(step - 1),
            "phase": progress.phase + 1,
            "seconds": progress.seconds,
            "images_per_second": seen / progress.seconds,
        }
        progress.step_in_epoch, progress.loss_sum, progress.correct, progress.seconds = (
            0,
            0.0,
            0.0,
            0.0,
        )
        self._lower_rate()
        self.recorder.epoch(line)
        recorder.log_epoch(line, epochs=self.epochs, best=improved)
        if progress.stopped:
            log.info(
                "Stopped early: no better %s on validation for %d epochs.",
                self.monitor,
                progress.stale_epochs,
            )
        if self._over():
            self._end()
        self._save()

    def _decide(self, figure: float, step: int) -> bool:
        """Counts the epoch, whose validation figure is the lower the better; returns whether it is the best so far.

        One that is not finite never is.
        """
        progress = self.progress
        progress.epoch += 1
        progress.phase_epochs += 1
        improved = math.isfinite(figure) and (progress.best is None or figure < progress.best)
        if improved:
            progress.best, progress.best_epoch, progress.best_step = figure, progress.epoch, step
        progress.stale_epochs = 0 if improved else progress.stale_epochs + 1
        progress.plateau_epochs = 0 if improved else progress.plateau_epochs + 1
        progress.stopped = 0 < self.phase.early_stopping <= progress.stale_epochs
        return improved

    def _lower_rate(self) -> None:
        """The plateau schedule: after `patience` epochs without improvement the rate falls by `factor`."""
        plateau, peak = self.phase.plateau, self.phase.config.optimizer.learning_rate
        if plateau is None or self.progress.plateau_epochs < plateau.patience:
            return
        self.progress.plateau_epochs = 0
        scale = max(float(steps.fetch(self.state.rate_scale)) * plateau.factor, plateau.lowest)
        self.state = self.state.replace(rate_scale=steps.replicate(np.float32(scale)))
        log.info("The learning rate falls to %.2g.", scale * peak)

    def _validate(self) -> tuple[float, float]:
        """Mean loss and accuracy on the validation set."""
        logits = self.phase.predict(setup.variables(self.state), self.validation_images)
        labels = self.data.validation.labels
        losses = np.asarray(cross_entropy(logits, labels), np.float64)
        return float(losses.mean()), float((logits.argmax(-1) == labels).mean())

    def _check_finite(self, losses: np.ndarray) -> None:
        if np.isfinite(losses).all():
            return
        bad = int(np.flatnonzero(~np.isfinite(losses))[0])
        step = self._step() - len(losses) + bad
        rate = self._rate(step)
        raise divergence.at_step(losses[bad], step=step, rate=rate, progress=self.progress)

    def _rate(self, step: int) -> float:
        """The learning rate of a step of the phase under way."""
        start, scale = steps.fetch((self.state.phase_start, self.state.rate_scale))
        return float(self.phase.schedule(step - int(start))) * float(scale)

    def _step(self) -> int:
        return int(steps.fetch(self.state.step))

    def _save(self) -> None:
        if not self.checkpoints:
            return
        model, training = steps.fetch(as_trees(self.state))
        step, progress = int(training["step"]), dataclasses.asdict(self.progress)
        self.checkpoints.save(step, model=model, training=training, progress=progress)
