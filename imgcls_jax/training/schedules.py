"""Learning rate schedules, by optimizer steps, as Optax has them."""

import dataclasses
from collections.abc import Callable

import optax
from ml_collections import ConfigDict

from imgcls_jax.errors import ConfigError, choose

Schedule = Callable[[int], float]


def constant(config: ConfigDict, peak: float, num_steps: int, steps_per_epoch: int) -> Schedule:
    return optax.constant_schedule(peak)


def cosine(config: ConfigDict, peak: float, num_steps: int, steps_per_epoch: int) -> Schedule:
    return optax.cosine_decay_schedule(peak, num_steps, alpha=config.end_factor)


def linear(config: ConfigDict, peak: float, num_steps: int, steps_per_epoch: int) -> Schedule:
    return optax.linear_schedule(peak, peak * config.end_factor, num_steps)


def onecycle(config: ConfigDict, peak: float, num_steps: int, steps_per_epoch: int) -> Schedule:
    return optax.cosine_onecycle_schedule(num_steps, peak, pct_start=config.pct_start)


def step(config: ConfigDict, peak: float, num_steps: int, steps_per_epoch: int) -> Schedule:
    boundaries: dict[int, float] = {}
    for epoch in config.step_epochs:
        boundary = round(epoch * steps_per_epoch)
        boundaries[boundary] = boundaries.get(boundary, 1.0) * config.factor
    return optax.piecewise_constant_schedule(peak, boundaries)


@dataclasses.dataclass(frozen=True)
class Plateau:
    """After `patience` epochs without improvement the rate is multiplied by `factor`.

    min_factor: what the product of all factors never falls below.
    """

    factor: float
    patience: int
    min_factor: float


def plateau(config: ConfigDict, *, peak: float) -> Plateau | None:
    """Returns the plateau schedule of `config.schedule`, or None if it has another schedule."""
    if config.name != "plateau":
        return None
    return Plateau(config.factor, config.patience, config.min_rate / peak)


# The rate of "plateau" follows validation, which a schedule does not see: the loop changes a factor
# in the optimizer's state.
SCHEDULES = {
    "constant": constant,
    "cosine": cosine,
    "linear": linear,
    "onecycle": onecycle,
    "step": step,
    "plateau": constant,
}


def unreached(config: ConfigDict, epochs: int) -> list[float]:
    """Returns those of `step_epochs` at which training has ended, if the schedule is "step"."""
    if config.name != "step":
        return []
    return [epoch for epoch in config.step_epochs if epoch >= epochs]


def ramp(low: float, high: float, num_steps: int) -> Schedule:
    """Returns an exponential rise from `low` in the first of `num_steps` to `high` in the last."""
    return optax.exponential_decay(low, num_steps - 1, high / low)


def create(config: ConfigDict, *, peak: float, epochs: int, steps_per_epoch: int) -> Schedule:
    """Returns the schedule of `config.schedule` over `epochs`, after its linear warm-up.

    Raises ConfigError for an unknown name, and for a warm-up that leaves no epoch or doubles the one
    that onecycle has.
    """
    build = choose("schedule", config.name, SCHEDULES)
    num_steps = epochs * steps_per_epoch
    warmup = round(config.warmup_epochs * steps_per_epoch)
    if config.warmup_epochs and num_steps > 1:
        warmup = max(warmup, 1)
    if not warmup:
        return build(config, peak, num_steps, steps_per_epoch)
    if config.name == "onecycle":
        raise ConfigError(
            "onecycle has a warm-up of its own (schedule.pct_start): set schedule.warmup_epochs to 0."
        )
    if not 0 < warmup < num_steps:
        raise ConfigError(
            f"schedule.warmup_epochs is {config.warmup_epochs}, and there are {epochs} epochs: give "
            "at least 0 and fewer than train.epochs."
        )
    # `step` falls at epochs counted from the start of training; the others begin after the warm-up.
    offset = warmup if config.name == "step" else 0
    after = build(config, peak, num_steps - warmup, steps_per_epoch)
    rise = optax.linear_schedule(0.0, peak, warmup)
    return optax.join_schedules([rise, lambda step: after(step + offset)], [warmup])
