"""Learning rate schedules: step -> rate. Lengths are given in epochs and turned into steps here."""

import dataclasses
from collections.abc import Callable

import optax
from ml_collections import ConfigDict

from imgcls_jax.errors import ConfigError, choose

Schedule = Callable[[int], float]


def constant(config: ConfigDict, peak: float, steps: int, steps_per_epoch: int) -> Schedule:
    return optax.constant_schedule(peak)


def cosine(config: ConfigDict, peak: float, steps: int, steps_per_epoch: int) -> Schedule:
    return optax.cosine_decay_schedule(peak, steps, alpha=config.final)


def linear(config: ConfigDict, peak: float, steps: int, steps_per_epoch: int) -> Schedule:
    return optax.linear_schedule(peak, peak * config.final, steps)


def onecycle(config: ConfigDict, peak: float, steps: int, steps_per_epoch: int) -> Schedule:
    return optax.cosine_onecycle_schedule(steps, peak, pct_start=config.peak_at)


def step(config: ConfigDict, peak: float, steps: int, steps_per_epoch: int) -> Schedule:
    falls = {round(epoch * steps_per_epoch): config.factor for epoch in config.step_epochs}
    return optax.piecewise_constant_schedule(peak, falls)


@dataclasses.dataclass(frozen=True)
class Plateau:
    """After `patience` epochs without improvement the rate is multiplied by `factor`, down to the share `lowest`."""

    factor: float
    patience: int
    lowest: float

    @classmethod
    def of(cls, config: ConfigDict, *, peak: float) -> "Plateau | None":
        """That of `config.schedule`; None where it has another schedule."""
        if config.name != "plateau":
            return None
        return cls(config.factor, config.patience, config.min_rate / peak)


# The rate of "plateau" follows the validation figures, which a schedule does not see: the loop scales it (loop.py).
SCHEDULES = {
    "constant": constant,
    "cosine": cosine,
    "linear": linear,
    "onecycle": onecycle,
    "step": step,
    "plateau": constant,
}


def create(config: ConfigDict, *, peak: float, epochs: int, steps_per_epoch: int) -> Schedule:
    """The schedule of `config.schedule` over `epochs`, after its linear warm-up.

    Raises ConfigError for an unknown name, and for a warm-up that leaves no epoch or doubles onecycle's own.
    """
    build = choose("schedule", config.name, SCHEDULES)
    warmup = round(config.warmup_epochs * steps_per_epoch)
    if not warmup:
        return build(config, peak, epochs * steps_per_epoch, steps_per_epoch)
    if config.name == "onecycle":
        raise ConfigError(
            "onecycle has a warm-up of its own (schedule.peak_at): set schedule.warmup_epochs to 0."
        )
    if warmup < 0 or warmup >= epochs * steps_per_epoch:
        raise ConfigError(
            f"schedule.warmup_epochs is {config.warmup_epochs}, of {epochs} epochs in all: give at least 0 and fewer "
            "than train.epochs."
        )
    # `step` falls at epochs counted from the start of training; the others have what the warm-up leaves.
    offset = warmup if config.name == "step" else 0
    rest = build(config, peak, epochs * steps_per_epoch - warmup, steps_per_epoch)
    rise = optax.linear_schedule(0.0, peak, warmup)
    return optax.join_schedules([rise, lambda step: rest(step + offset)], [warmup])
