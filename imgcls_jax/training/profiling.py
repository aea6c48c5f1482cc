"""A look at a few training steps: a trace for TensorBoard or Perfetto, how much of the device they use, and how long
the whole training would take."""

import dataclasses
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from imgcls_jax import trees
from imgcls_jax.data import Splits
from imgcls_jax.data.batches import epoch_batches
from imgcls_jax.training import phases as phases_of
from imgcls_jax.training import setup, steps

STEPS = 5  # in the trace
TIMED_STEPS = 20
PROBED_BATCHES = 4  # for an estimate
MOST_CALLS = 50  # that are timed
# Dense matrix products, FLOP/s, as NVIDIA publishes them: in bfloat16, and in TF32, which float32 convolutions use.
PEAKS = {
    "H100": {"bfloat16": 989e12, "float32": 495e12},
    "H200": {"bfloat16": 989e12, "float32": 495e12},
    "A100": {"bfloat16": 312e12, "float32": 156e12},
    "V100": {"float32": 15.7e12},
}


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a training would be, for all numbers of epochs."""

    parameters: int
    trainable: int  # in the last phase
    features: float  # seconds that those take which are computed once
    per_epoch: tuple[float, ...]  # seconds of an epoch of each phase, with validation

    def seconds(self, config: ConfigDict) -> float:
        """All the epochs of a config like the one looked at, at most: it may stop early."""
        return self.features + sum(
            n * each for n, each in zip(epochs_of(config), self.per_epoch, strict=True)
        )


def epochs_of(config: ConfigDict) -> list[int]:
    """The epochs of each phase of a config, at most."""
    return [phase.train.epochs for phase in phases_of.of(config).values()]


def estimate(config: ConfigDict, data: Splits) -> Estimate:
    """From a few steps of each phase, and a validation of some images; of distillation as from labels alone.

    Data is the whole data set, of which a few images are looked at.
    """
    config = config.copy_and_resolve_references()
    if "teacher" in config.objective:
        config.objective = ConfigDict()
    phases = setup.build(config, data)
    few = data.train.take(np.arange(min(len(data.train), PROBED_BATCHES * config.train.batch_size)))
    seen = data.validation.take(np.arange(min(len(data.validation), config.train.eval_batch_size)))
    once, per_epoch = 0.0, []
    for phase in phases:
        state, size = steps.replicate(phase.state, to_donate=True), phase.config.train.batch_size
        (images, targets), (validation, _) = steps.place(few), steps.place(seen)
        if phase.embed:
            embed = lambda: phase.embed(setup.variables(state), images)  # noqa: B023, E731  called at once
            once += seconds_of(embed) / len(few) * (len(data.train) + len(data.validation))
            images, validation = steps.replicate(
                (embed(), phase.embed(setup.variables(state), validation))
            )
        batches = epoch_batches(len(few), size, seed=config.seed, epoch=0)
        indices = steps.split(batches, len(batches))

        def step():
            nonlocal state
            state, metrics = phase.train(state, (images, targets), indices, len(batches))  # noqa: B023
            return metrics

        epoch = seconds_of(step) / len(batches) * phase.steps_per_epoch
        validating = seconds_of(lambda: phase.predict(setup.variables(state), validation))  # noqa: B023
        per_epoch.append(epoch + validating / len(seen) * len(data.validation))
    return Estimate(
        parameters=trees.count(phases[-1].state.params),
        trainable=trees.count(phases[-1].adaptation.split(phases[-1].state.params)[0]),
        features=once,
        per_epoch=tuple(per_epoch),
    )


def seconds_of(call: Callable[[], object], *, over: float = 0.0) -> float:
    """The median of some calls, which take about `over` seconds together, or of one; one before them compiles."""
    jax.block_until_ready(call())
    taken: list[float] = []
    while not taken or (sum(taken) < over and len(taken) < MOST_CALLS):
        started = time.perf_counter()
        jax.block_until_ready(call())
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def profile(config: ConfigDict, data: Splits, folder: Path) -> dict[str, float | None]:
    """Traces a few steps of the config's training (of its first phase) into `folder`; nothing of it is kept.

    Returns FLOPs per step (as XLA counts the program before it optimizes it), seconds per step without the trace,
    images per second, and the share of the devices' peak, None where that is not known.
    """
    built = setup.build(config, data)[0]
    size = config.train.batch_size
    batches = epoch_batches(len(data.train), size, seed=config.seed, epoch=0)[
        : max(STEPS, TIMED_STEPS)
    ]
    state = steps.replicate(built.state, to_donate=True)
    feed = steps.Feed(built.place(state, data.train)[0], batches, most=len(batches))
    images, indices, count, rows = feed.take(
        feed.ready()
    )  # streamed ones too: reading them is no part of the figures
    flops = built.train.flops(state, images, indices)
    state, _ = built.train(state, images, indices, 1, rows)  # compiles
    with jax.profiler.trace(str(folder), create_perfetto_trace=True):
        state, metrics = built.train(state, images, indices, min(STEPS, count), rows)
        jax.block_until_ready(metrics)
    started = time.perf_counter()
    jax.block_until_ready(built.train(state, images, indices, count, rows))
    seconds = (time.perf_counter() - started) / count
    peak = _peak(config.train.precision)
    return {
        "flops_per_step": flops,
        "seconds_per_step": seconds,
        "images_per_second": size / seconds,
        "share_of_peak": flops / seconds / peak if peak else None,
    }


def describe(figures: dict[str, float | None], folder: Path) -> str:
    """The figures of `profile` in words."""
    flops, seconds, share = (
        figures[key] for key in ("flops_per_step", "seconds_per_step", "share_of_peak")
    )
    of_peak = f"{share:.1%} of the peak" if share else "the peak of this device is not known"
    return (
        f"{flops / 1e9:,.2f} GFLOP and {1000 * seconds:.2f} ms a step: {flops / seconds / 1e9:,.1f} GFLOP/s, "
        f"{of_peak}; {figures['images_per_second']:,.0f} images/s.\n"
        f"Trace: tensorboard --logdir {folder} (with tensorboard-plugin-profile), or perfetto_trace.json.gz below that "
        "folder in Perfetto."
    )


def _peak(precision: str) -> float | None:
    """FLOP/s of all devices together."""
    kind = jax.devices()[0].device_kind
    known = next((peaks for name, peaks in PEAKS.items() if name in kind), {})
    return known[precision] * jax.device_count() if precision in known else None
