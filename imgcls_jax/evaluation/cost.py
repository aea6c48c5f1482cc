"""What a model costs to use: multiply-adds, latency and throughput.

The weights do not matter, so the config of a run is enough.
"""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from imgcls_jax import models
from imgcls_jax.models import cpu_kernels
from imgcls_jax.run.folder import RunFolder
from imgcls_jax.training import operations
from imgcls_jax.training.initializer import Initializer
from imgcls_jax.training.profiling import seconds_of
from imgcls_jax.training.setup import build_model, tta_views
from imgcls_jax.training.train_step import eval_step

BATCH_SIZE = 128  # for throughput
SECONDS = 0.5  # about how long each timing takes


@dataclasses.dataclass(frozen=True)
class Cost:
    """Cost of one model, test-time views included.

    Times are from uint8 images on the device to logits.

    multiply_adds: of one image, in convolutions and matrix products.
    latency: median seconds for a single image.
    images_per_second: in batches of BATCH_SIZE.
    """

    multiply_adds: int
    latency: float
    images_per_second: float


class Meter:
    """Measures the models of runs on the first device of this process, each model once."""

    def __init__(self):
        self._costs: dict[str, Cost] = {}

    def __call__(self, run: RunFolder) -> Cost:
        config = run.config
        data = run.data
        shape = tuple(data["splits"]["train"]["shape"])
        num_classes = len(data["class_names"])
        options = [
            models.architecture(config.model),
            config.data.transform,
            config.train.precision,
            config.train.tta,
            shape,
            num_classes,
        ]
        key = json.dumps(options, default=str)
        if key not in self._costs:
            model, transform = build_model(config, num_classes=num_classes)
            cost = measure(model, transform, shape=shape, tta=tta_views(config))
            self._costs[key] = cost
        return self._costs[key]


def measure(model, transform, *, shape: tuple[int, int, int], tta) -> Cost:
    """Measures the model with weights of zero on random uint8 images of `shape` [H, W, C]."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BATCH_SIZE, *shape), np.uint8)
    x = jax.eval_shape(transform, images[:1])
    shapes = Initializer(model, x, seed=0).shapes
    # Zeros that are written: np.zeros would have one page of memory for all.
    zeros = jax.tree.map(lambda leaf: np.full(leaf.shape, 0, leaf.dtype), shapes)
    variables = jax.device_put(zeros)
    images = jax.device_put(images)

    def logits(variables, x):
        return eval_step(model, variables, x, tta=tta)

    @jax.jit
    def predict(variables, images):
        return logits(variables, transform(images))

    single = images[:1]
    batch_seconds = seconds_of(lambda: predict(variables, images), over=SECONDS)
    return Cost(
        multiply_adds=multiply_adds(logits, variables, x),
        latency=seconds_of(lambda: predict(variables, single), over=SECONDS),
        images_per_second=BATCH_SIZE / batch_seconds,
    )


def multiply_adds(function: Callable[..., Any], *arguments: Any) -> int:
    """Counts the multiply-adds of the function's convolutions and matrix products.

    arguments: arrays or their shapes. Padding counts like everything else, as is usual. A loop
    whose length is not known before it runs counts once.
    """
    with cpu_kernels.use(enabled=False):  # count the architecture, not how a CPU computes it
        # A new function each time, since JAX caches traces by function.
        jaxpr = jax.make_jaxpr(lambda *operands: function(*operands))(*arguments)
    return operations.multiply_adds(jaxpr.jaxpr)
