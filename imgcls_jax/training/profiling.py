"""A few training steps: a trace for TensorBoard or Perfetto, and how much of the device they use."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import jax
from ml_collections import ConfigDict

from imgcls_jax.data import Splits
from imgcls_jax.data.batches import epoch_batches
from imgcls_jax.devices import DEVICES
from imgcls_jax.training import inputs, parallel, setup

STEPS = 5  # in the trace
TIMED_STEPS = 20
MAX_CALLS = 50  # that are timed


def seconds_of(call: Callable[[], object], *, over: float = 0.0) -> float:
    """Returns the median time of some calls that take about `over` seconds, or of one.

    A call before them compiles.
    """
    jax.block_until_ready(call())
    times: list[float] = []
    while not times or (sum(times) < over and len(times) < MAX_CALLS):
        started = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def profile(config: ConfigDict, data: Splits, folder: Path) -> dict[str, float | None]:
    """Traces a few training steps of a config's first phase into `folder`; their results are dropped.

    Returns FLOPs per step (as XLA counts the program before it optimizes it), seconds per step
    without the trace, images per second, and the share of the devices' peak, None if that is not
    known.
    """
    phase = setup.build(config, data)[0]
    batch_size = config.train.batch_size
    num_steps = max(STEPS, TIMED_STEPS)
    batches = epoch_batches(len(data.train), batch_size, seed=config.seed, epoch=0)[:num_steps]
    state = parallel.replicate(phase.drawn_state(), to_donate=True)
    placed, _ = phase.place(state, data.train)
    feed = inputs.Feed(placed, batches, most=len(batches))
    images, indices, count, rows = feed.take(feed.ready())  # reading streamed ones is not measured
    flops = phase.train.flops(state, images, indices)
    state, _ = phase.train(state, images, indices, 1, rows)  # compiles
    with jax.profiler.trace(str(folder), create_perfetto_trace=True):
        state, metrics = phase.train(state, images, indices, min(STEPS, count), rows)
        jax.block_until_ready(metrics)
    started = time.perf_counter()
    jax.block_until_ready(phase.train(state, images, indices, count, rows))
    seconds = (time.perf_counter() - started) / count
    peak = _peak(config.train.precision)
    return {
        "flops_per_step": flops,
        "seconds_per_step": seconds,
        "images_per_second": batch_size / seconds,
        "share_of_peak": flops / seconds / peak if peak else None,
    }


def describe(figures: dict[str, float | None], folder: Path) -> str:
    """Returns the figures of `profile` in words."""
    flops = figures["flops_per_step"]
    seconds = figures["seconds_per_step"]
    share = figures["share_of_peak"]
    of_peak = f"{share:.1%} of the peak" if share else "the peak of this device is not known"
    return (
        f"{flops / 1e9:,.2f} GFLOP and {1000 * seconds:.2f} ms a step: {flops / seconds / 1e9:,.1f} "
        f"GFLOP/s, {of_peak}; {figures['images_per_second']:,.0f} images/s.\n"
        f"Trace: tensorboard --logdir {folder} (with tensorboard-plugin-profile), or "
        "perfetto_trace.json.gz below that folder in Perfetto."
    )


def _peak(precision: str) -> float | None:
    """Returns the FLOP/s of all devices, None if they are not known."""
    if jax.default_backend() == "cpu":
        return None
    kind = jax.devices()[0].device_kind
    for device in DEVICES.values():
        if device.name in kind and precision in device.flops:
            return device.flops[precision] * jax.device_count()
    return None
