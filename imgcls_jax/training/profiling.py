"""A look at a few training steps: a trace for TensorBoard or Perfetto, and how much of the device they use."""

import time
from pathlib import Path

import jax
from ml_collections import ConfigDict

from imgcls_jax.data import Splits
from imgcls_jax.data.batches import epoch_batches
from imgcls_jax.training import setup, steps

STEPS = 5  # in the trace
TIMED_STEPS = 20
# Dense matrix products, FLOP/s, as NVIDIA publishes them: in bfloat16, and in TF32, which float32 convolutions use.
PEAKS = {
    "H100": {"bfloat16": 989e12, "float32": 495e12},
    "H200": {"bfloat16": 989e12, "float32": 495e12},
    "A100": {"bfloat16": 312e12, "float32": 156e12},
    "V100": {"float32": 15.7e12},
}


def profile(config: ConfigDict, data: Splits, folder: Path) -> dict[str, float | None]:
    """Traces a few steps of the config's training (of its first phase) into `folder`; nothing of it is kept.

    Returns FLOPs per step (as XLA counts the program before it optimizes it), seconds per step without the trace,
    images per second, and the share of the devices' peak, None where that is not known.
    """
    built = setup.build(config, data)[0]
    size = config.train.batch_size
    batches = epoch_batches(len(data.train), size, seed=config.seed, epoch=0)[: max(STEPS, TIMED_STEPS)]
    state = steps.replicate(built.state)
    feed = steps.Feed(built.place(state, data.train)[0], batches, most=len(batches))
    images, indices, count, rows = feed.take(feed.ready())  # streamed ones too: reading them is no part of the figures
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
    flops, seconds, share = (figures[key] for key in ("flops_per_step", "seconds_per_step", "share_of_peak"))
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
