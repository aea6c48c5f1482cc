"""A learning rate range test (Smith, 2015, arXiv:1506.01186): the loss while the rate rises.

The rate rises exponentially over a few hundred steps of the config's own training. Its suggestion is a
share of the rate at which training breaks down.
"""

import dataclasses

import numpy as np
from ml_collections import ConfigDict

from imgcls_jax.data import Splits
from imgcls_jax.data.dataset import Dataset
from imgcls_jax.errors import ConfigError, TrainingError
from imgcls_jax.training import inputs, metrics, parallel, schedules, setup

MIN_STEPS = 50
WINDOW = 0.05  # of the steps: the loss is averaged over so many
LEAST_FALL = 0.02  # of the first loss: by how much it must fall
BROKEN = 0.5  # of that fall: training has broken down once so much is lost again
SHARE = 0.05  # of the rate at which it has


@dataclasses.dataclass(frozen=True)
class RangeTest:
    """The steps of a range test, up to the first loss that is not finite.

    rates: float64 [S], in ascending order. losses: float64 [S], of each step's batch.
    """

    rates: np.ndarray
    losses: np.ndarray

    @property
    def smoothed(self) -> tuple[np.ndarray, np.ndarray]:
        """Rates (geometric) and losses, each a mean over a window of steps; without its borders."""
        size = max(round(WINDOW * len(self.rates)), 1)
        window = np.full(size, 1 / size)
        rates = np.exp(np.convolve(np.log(self.rates), window, "valid"))
        losses = np.where(np.isfinite(self.losses), self.losses, np.inf)
        views = np.lib.stride_tricks.sliding_window_view(losses, size)
        return rates, views.mean(-1)

    @property
    def breakdown(self) -> float:
        """The rate at which the smoothed loss is again half as high as it was above its minimum.

        Raises TrainingError if the loss did not fall, or did not rise again.
        """
        rates, losses = self.smoothed
        lowest = int(losses.argmin())
        first = losses[0]
        fall = first - losses[lowest]
        if not fall > LEAST_FALL * first:
            raise TrainingError(
                f"The loss did not fall: it was {first:.4g} in the first steps and "
                f"{losses[lowest]:.4g} at best. Give more --steps, or a lower --low if it rose at "
                "once."
            )
        is_broken = losses[lowest:] > losses[lowest] + BROKEN * fall
        if not is_broken.any():
            raise TrainingError(
                f"The loss did not rise again up to the rate {self.rates[-1]:.3g}: give a higher "
                "--high."
            )
        return float(rates[lowest + int(is_broken.argmax())])

    @property
    def suggestion(self) -> float:
        """The suggested rate, with two digits. Raises TrainingError as `breakdown` does."""
        return float(f"{SHARE * self.breakdown:.1e}")


def run(
    config: ConfigDict,
    data: Splits,
    *,
    num_steps: int,
    low: float,
    high: float,
) -> RangeTest:
    """Trains `num_steps` steps of a config's first phase with rates from `low` to `high`.

    All else is as in the config's training; the weights are dropped.
    """
    schedule = schedules.ramp(low, high, num_steps)
    phase = setup.build(config, data, schedule=schedule)[0]
    state = phase.first_state(config, data.train.class_names)
    state = parallel.replicate(state, to_donate=True)
    placed, _ = phase.place(state, data.train)
    batches = _batches(phase, data.train, num_steps)
    feed = inputs.Feed(placed, batches, most=config.train.steps_per_dispatch)
    losses: list[float] = []
    while len(losses) < num_steps and np.isfinite(losses).all():
        count = feed.ready()
        state, stacked = phase.train(state, *feed.take(count))
        losses.extend(metrics.totals(stacked, count)["loss"] / phase.config.train.batch_size)
    rates = np.geomspace(low, high, num_steps)
    return RangeTest(rates[: len(losses)], np.array(losses, float))


def check(num_steps: int, low: float, high: float) -> None:
    """Raises ConfigError for steps and rates that make no range test."""
    if num_steps < MIN_STEPS:
        raise ConfigError(f"--steps is {num_steps}: give at least {MIN_STEPS}.")
    if not 0 < low < high < float("inf"):
        raise ConfigError(f"--low is {low:g} and --high {high:g}: give 0 < low < high.")


def _batches(phase: setup.Setup, train: Dataset, num_steps: int) -> np.ndarray:
    """Returns the first batches of a phase, indices int32 [num_steps, B]."""
    num_epochs = -(-num_steps // phase.steps_per_epoch)
    parts = [phase.batches(train, epoch=epoch) for epoch in range(num_epochs)]
    return np.concatenate(parts)[:num_steps]
