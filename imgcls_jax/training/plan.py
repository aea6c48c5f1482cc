"""What a training in phases is going to do, and about how long it takes, in words."""

import logging
import re
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from imgcls_jax import trees
from imgcls_jax.data import Splits
from imgcls_jax.errors import listed
from imgcls_jax.training import parallel, schedules, setup
from imgcls_jax.training.state import Progress, TrainState

log = logging.getLogger(__name__)

# Time of a training step by that of a forward pass: the part that trains also runs backwards.
PARTLY_TRAINED = 2.0
LAYER_NUMBER = re.compile(r"_\d+$")  # of "layer1_0", which is in the block "layer1"


def say(phases: Sequence[setup.Setup], progress: Progress, data: Splits, state: TrainState) -> None:
    """Logs which phase begins, and its parameters; of a first one on features also the whole plan.

    state: that it begins with. Of a phase that is resumed the parameters by block are left out: they
    were logged already.
    """
    number = progress.phase
    is_resumed = progress.phase_epochs > 0 or progress.step_in_epoch > 0
    phase = phases[number]
    epochs = phase.config.train.epochs
    if phase.name:
        if number == 0 and phase.embed:
            log.info("%s", describe(phases, data, state))
        log.info("Phase %d of %d: %s, %d epochs.", number + 1, len(phases), phase.name, epochs)
    if unreached := schedules.unreached(phase.config.schedule, epochs):
        times = listed([f"{epoch:g}" for epoch in unreached])
        log.info("schedule.step_epochs without effect, after %d epochs: %s.", epochs, times)
    trainable, frozen = phase.adaptation.split(phase.shapes.params)
    counts = f"{trees.count(trainable):,} parameters"
    num_frozen = trees.count(frozen)
    if num_frozen:
        counts += f", and {num_frozen:,} are frozen"
    log.info("Trainable: %s.", counts)
    if not is_resumed:
        log.info("%s", by_block(trainable))


def by_block(params: Any) -> str:
    """Returns a line with the number of parameters for each block of a model, such as "layer1"."""
    counts: dict[str, int] = {}
    for path, leaf in trees.flatten(params).items():
        block = LAYER_NUMBER.sub("", path.split("/")[0])
        counts[block] = counts.get(block, 0) + leaf.size
    name_width = max(map(len, counts), default=0)
    count_width = len(f"{max(counts.values(), default=0):,}")
    lines = []
    for block, count in counts.items():
        lines.append(f"  {block:<{name_width}}  {count:>{count_width},}")
    return "\n".join(lines)


def describe(phases: Sequence[setup.Setup], data: Splits, state: TrainState) -> str:
    """Returns a sentence on what the config says, and one on the time, measured on one batch."""
    batch_size = phases[0].config.train.batch_size
    parts = ", then ".join(_describe(phase) for phase in phases)
    seconds = estimate(phases, data, _seconds_per_image(phases[0], data, state))
    return (
        f"{len(data.train):,} training images in batches of {batch_size}, {len(data.validation):,} "
        f"for validation: {parts}. About {duration(seconds)}, besides compiling and reading the images."
    )


def _describe(phase: setup.Setup) -> str:
    count = phase.config.train.epochs
    plural = "" if count == 1 else "s"
    epochs = f"{count} epoch{plural} of {phase.name}"
    if phase.embed:
        return f"{epochs} on features that are computed once"
    return epochs


def estimate(phases: Sequence[setup.Setup], data: Splits, forward: float) -> float:
    """Returns the seconds of all epochs, with validation and the features.

    forward: seconds of one image's forward pass.
    """
    num_train = len(data.train)
    num_validation = len(data.validation)
    total = 0.0
    for phase in phases:
        if phase.embed:
            total += forward * (num_train + num_validation)
        else:
            per_epoch = forward * (PARTLY_TRAINED * num_train + num_validation)
            total += phase.config.train.epochs * per_epoch
    return total


def _seconds_per_image(phase: setup.Setup, data: Splits, state: TrainState) -> float:
    """Measures the features of a first batch, after a call that compiles."""
    size = phase.config.train.eval_batch_size
    batch = parallel.replicate(data.train.images[np.arange(size) % len(data.train)])
    phase.embed(state.variables, batch)
    started = time.perf_counter()
    phase.embed(state.variables, batch)
    return (time.perf_counter() - started) / size


def duration(seconds: float) -> str:
    """Returns a time in words, rounded up: "40 s", "3 min", "2 h 10 min"."""
    if seconds < 90:
        tens = -(-seconds // 10)
        return f"{max(tens * 10, 10):.0f} s"
    minutes = int(-(-seconds // 60))
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
