"""What a training in phases is going to do, and about how long it will take, in words."""

import logging
import time
from collections.abc import Sequence

import numpy as np

from imgcls_jax.data import Splits
from imgcls_jax.training import setup, steps

log = logging.getLogger(__name__)

# Of the time of a forward pass, what a training step takes: the part that trains runs forwards and backwards.
PARTLY_TRAINED = 2.0


def say(phases: Sequence[setup.Setup], number: int, data: Splits) -> None:
    """Logs which phase begins; of the first one, where its features are computed once, the whole
    plan with its time."""
    phase = phases[number]
    if not phase.name:
        return
    if number == 0 and phase.embed:
        log.info("%s", describe(phases, data))
    epochs = phase.config.train.epochs
    log.info("Phase %d of %d: %s, %d epochs.", number + 1, len(phases), phase.name, epochs)


def describe(phases: Sequence[setup.Setup], data: Splits) -> str:
    """One sentence of what the config says, one of the time, which a batch of training images
    gives."""
    settings = phases[0].config.train
    parts = [_describe(phase) for phase in phases]
    seconds = estimate(phases, data, _seconds_per_image(phases[0], data))
    return (
        f"{len(data.train):,} training images in batches of {settings.batch_size}, {len(data.validation):,} for "
        f"validation: {', then '.join(parts)}. About {duration(seconds)}, besides compiling and reading the images."
    )


def _describe(phase: setup.Setup) -> str:
    count = phase.config.train.epochs
    epochs = f"{count} epoch{'s' * (count != 1)} of {phase.name}"
    return f"{epochs} on features that are computed once" if phase.embed else epochs


def estimate(phases: Sequence[setup.Setup], data: Splits, forward: float) -> float:
    """Seconds of all the epochs, with validation and the features; forward: seconds of an image's
    forward pass."""
    train, validation = len(data.train), len(data.validation)
    total = 0.0
    for phase in phases:
        if phase.embed:
            total += forward * (train + validation)
        else:
            total += phase.config.train.epochs * forward * (PARTLY_TRAINED * train + validation)
    return total


def _seconds_per_image(phase: setup.Setup, data: Splits) -> float:
    """Of the features of a first batch, by the program that computes all of them; a call before it
    compiles."""
    size = phase.config.train.eval_batch_size
    batch = steps.replicate(data.train.images[np.arange(size) % len(data.train)])
    variables = setup.variables(steps.replicate(phase.state))
    phase.embed(variables, batch)
    started = time.perf_counter()
    phase.embed(variables, batch)
    return (time.perf_counter() - started) / size


def duration(seconds: float) -> str:
    """In words, rounded up: "40 s", "3 min", "2 h 10 min"."""
    if seconds < 90:
        return f"{max(-(-seconds // 10) * 10, 10):.0f} s"
    minutes = int(-(-seconds // 60))
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
