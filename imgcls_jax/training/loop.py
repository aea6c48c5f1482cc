"""The training loop: epochs of dispatches, validation, early stopping, checkpoints, resuming."""

import dataclasses
import logging
import math
import time

from ml_collections import ConfigDict

from imgcls_jax import distributed
from imgcls_jax.config import reads
from imgcls_jax.data import Splits
from imgcls_jax.run.checkpoints import Checkpoints
from imgcls_jax.run.folder import CHECKPOINTS, RunFolder
from imgcls_jax.training import (
    divergence,
    features,
    inputs,
    metrics,
    parallel,
    plan,
    recorder,
    setup,
)
from imgcls_jax.training.interrupt import Interrupt, Interrupted, catch_signals
from imgcls_jax.training.recorder import EpochProgress
from imgcls_jax.training.restore import restore
from imgcls_jax.training.state import Progress, TrainState, as_plain, as_trees

log = logging.getLogger(__name__)

SECONDS_PER_DISPATCH = 2.0  # about how long a signal waits at most, and the progress bar


def train(config: ConfigDict, run: RunFolder, data: Splits) -> None:
    """Trains the model of `config` on `data`, or goes on where the run in the folder stopped.

    Leaves checkpoints and metrics.jsonl. Raises Interrupted after SIGTERM or SIGINT, with everything
    saved, and TrainingError if the loss is no longer finite, or never was on validation.
    """
    training = _Training(config, run, data)
    if not training.progress.history:
        for sentence in reads.unread(config):
            log.info("%s", sentence)
    try:
        training.run()
    finally:
        training.close()


class _Training:
    """One call of `train`: what its epochs share. Only the primary process has `checkpoints`."""

    def __init__(self, config: ConfigDict, run: RunFolder, data: Splits):
        self.config = config
        self.data = data
        self.folder = run
        self.phases = setup.build(config, data)
        self.epochs = sum(phase.config.train.epochs for phase in self.phases)  # at most
        self.max_steps = config.train.steps_per_dispatch
        self.seconds_per_step = math.inf  # of the last dispatch
        self.checkpoints = None
        if distributed.is_primary():
            self.checkpoints = Checkpoints(run.path / CHECKPOINTS)
        start = distributed.from_primary(lambda: as_plain(*self._first_state()))
        self.progress = Progress(**start["progress"])
        state = self.phase.shapes.with_leaves(start["leaves"])
        self.state = parallel.replicate(state, to_donate=True)
        self._begin_phase()
        self.recorder = recorder.Recorder(
            run,
            self.progress.history,
            step=self._step(),
            total_steps=self.epochs * self.phase.steps_per_epoch,
        )

    def _first_state(self) -> tuple[TrainState, Progress]:
        """Returns the state to start from, and what was done up to there."""
        shapes = [phase.shapes for phase in self.phases]
        if restored := restore(self.checkpoints, shapes, self.folder):
            return restored
        class_names = self.data.train.class_names
        return self.phases[0].first_state(self.config, class_names), Progress()

    @property
    def phase(self) -> setup.Setup:
        """The phase under way."""
        return self.phases[self.progress.phase]

    def _begin_phase(self) -> None:
        """Puts on the devices what the phase trains on, and says what it is."""
        plan.say(self.phases, self.progress, self.data, self.state)
        if self.phase.embed:
            log.info("Nothing of the features is trained or random: they are computed once.")
        self.train_data, self.feature_seconds = self.phase.place(self.state, self.data.train)
        (self.validation_images, _), _ = self.phase.place(self.state, self.data.validation)

    def _end_phase(self) -> None:
        """Says what the features computed once have saved, and begins the next phase, if any."""
        progress = self.progress
        if self.phase.embed:
            epoch_seconds = [
                line["seconds"] for line in progress.history if line["phase"] == progress.phase + 1
            ]
            log.info("%s", features.spared(epoch_seconds, self.feature_seconds))
        if progress.phase + 1 < len(self.phases):
            ended = self.phase
            progress.begin_phase()
            state = self.phase.begin(self.state, after=ended)
            self.state = parallel.replicate(state, to_donate=True)
            self._begin_phase()

    def run(self) -> None:
        """Trains to the end."""
        with catch_signals() as interrupt:
            while not self._is_over():
                self._epoch(interrupt)
                self._stop_if_asked(interrupt)
        divergence.check_end(self.progress, self.progress.history)

    def _is_over(self) -> bool:
        """Returns whether the phase has ended; the next one begins at once, if there is one."""
        return self.progress.stopped or self.progress.phase_epochs >= self.phase.config.train.epochs

    def close(self) -> None:
        if self.checkpoints:
            self.checkpoints.close()
        self.recorder.close()

    def _epoch(self, interrupt: Interrupt) -> None:
        """Trains what is left of the epoch under way, validates, decides, and saves."""
        progress = self.progress
        settings = self.config.train
        steps_per_epoch = self.phase.steps_per_epoch
        batches = self.phase.batches(self.data.train, epoch=progress.epoch)
        feed = inputs.Feed(
            self.train_data,
            batches[progress.step_in_epoch :],
            most=min(self.max_steps, steps_per_epoch),
        )
        bar = EpochProgress(
            epoch=progress.epoch + 1,
            epochs=self.epochs,
            steps=steps_per_epoch,
            done=progress.step_in_epoch,
            batch_size=settings.batch_size,
        )
        while progress.step_in_epoch < steps_per_epoch:
            count = self._dispatch(feed)
            bar.update(count, progress.means(settings.batch_size))
            if progress.step_in_epoch < steps_per_epoch:
                self._stop_if_asked(interrupt, bar)
        bar.close()
        self._finish_epoch()

    def _dispatch(self, feed: inputs.Feed) -> int:
        """Takes as many steps as fit SECONDS_PER_DISPATCH; returns how many."""
        started = time.perf_counter()
        wanted = max(int(SECONDS_PER_DISPATCH / self.seconds_per_step), 1)
        count = min(wanted, feed.ready())
        self.state, stacked = self.phase.train(self.state, *feed.take(count))
        totals = metrics.totals(stacked, count)
        batch_size = self.config.train.batch_size
        means = {name: values / batch_size for name, values in totals.items()}
        divergence.check_steps(
            means["loss"],
            first_step=self._step() - count,
            rate=self._learning_rate,
            progress=self.progress,
        )
        self.folder.check_there()
        self.recorder.steps(self._step(), means)
        seconds = time.perf_counter() - started
        self.progress.add(totals, seconds=seconds)
        self.seconds_per_step = distributed.global_max(seconds / count)
        return count

    def _stop_if_asked(self, interrupt: Interrupt, bar: EpochProgress | None = None) -> None:
        """Raises Interrupted if any process has received a signal; within an epoch after saving."""
        if signal_number := int(distributed.global_max(interrupt.received)):
            if bar:
                bar.close()
                self._save()
            raise Interrupted(signal_number)

    def _finish_epoch(self) -> None:
        progress = self.progress
        settings = self.config.train
        validation = self._validate()
        examples = self.phase.steps_per_epoch * settings.batch_size
        line = {
            "epoch": progress.epoch + 1,
            "step": self._step(),
            **metrics.with_prefix("train_", progress.means(settings.batch_size)),
            **metrics.with_prefix("validation_", validation),
            "learning_rate": self._learning_rate(-1),
            "phase": progress.phase + 1,
            "seconds": progress.seconds,
            "images_per_second": examples / progress.seconds,
        }
        figure = metrics.to_minimize(settings.monitor, validation)
        patience = self.phase.early_stopping
        improved = progress.end_epoch(figure, step=line["step"], patience=patience)
        self._lower_rate()
        self.recorder.epoch(line)
        recorder.log_epoch(line, epochs=self.epochs, is_best=improved)
        if progress.stopped:
            epochs = progress.stale_epochs
            reason = f"no better {settings.monitor} on validation for {epochs} epochs"
            log.info("Stopped early: %s.", reason)
        if self._is_over():
            self._end_phase()
        self._save()

    def _validate(self) -> dict[str, float]:
        """Returns the metrics on the validation set."""
        logits = self.phase.predict(self.state.variables, self.validation_images)
        return metrics.evaluate(logits, self.data.validation.labels)

    def _lower_rate(self) -> None:
        """Follows the plateau schedule: after `patience` stale epochs the rate falls by `factor`."""
        plateau = self.phase.plateau
        if plateau and self.progress.plateau_epochs >= plateau.patience:
            self.progress.plateau_epochs = 0
            before = self._learning_rate(0)
            self.state = self.phase.lower_rate(self.state)
            if self._learning_rate(0) < before:
                log.info("The learning rate falls to %.2g.", self._learning_rate(0))

    def _learning_rate(self, offset: int) -> float:
        """Returns the learning rate of a step, counted from the next one: -1 is the last one done."""
        progress = self.progress
        step = progress.phase_epochs * self.phase.steps_per_epoch + progress.step_in_epoch
        return self.phase.learning_rate(self.state, step + offset)

    def _step(self) -> int:
        return int(parallel.fetch(self.state.step))

    def _save(self) -> None:
        if self.checkpoints:
            model, training = parallel.fetch(as_trees(self.state))
            progress = dataclasses.asdict(self.progress)
            step = int(training["step"])
            self.checkpoints.save(step, model=model, training=training, progress=progress)
