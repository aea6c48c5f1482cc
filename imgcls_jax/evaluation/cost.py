"""What a model costs to use: multiply-adds, latency, throughput. Its weights play no part, so a config is enough."""

import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.extend.core import Jaxpr, jaxprs_in_params

from imgcls_jax import models
from imgcls_jax.models import cpu_kernels
from imgcls_jax.run.folder import RunFolder
from imgcls_jax.training import steps
from imgcls_jax.training.profiling import seconds_of
from imgcls_jax.training.setup import build_model, views

BATCH = 128  # images at once, where throughput is measured
SECONDS = 0.5  # over which each time is taken, about


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one model; times are from uint8 images on the device to logits, views of the run included."""

    multiply_adds: (
        int  # of one image, in the model's convolutions and matrix products, over all views
    )
    latency: float  # seconds that one image alone takes: the median
    images_per_second: float  # in batches of BATCH


class Meter:
    """Measures runs' models on this process' first device, each model once."""

    def __init__(self):
        self._known: dict[str, Cost] = {}

    def __call__(self, run: RunFolder) -> Cost:
        config, data = run.config, run.data
        what = [config.data.transform, config.train.precision, config.train.get("views")]
        shape, classes = tuple(data["splits"]["train"]["shape"]), len(data["class_names"])
        key = json.dumps([models.architecture(config.model), *what, shape, classes], default=str)
        if key not in self._known:
            self._known[key] = measure(
                *build_model(config, num_classes=classes), shape=shape, views=views(config)
            )
        return self._known[key]


def measure(model, transform, *, shape: tuple[int, int, int], views) -> Cost:
    """Of the model with random weights, on images uint8 of that shape [H, W, C]."""
    image = np.random.default_rng(0).integers(0, 256, (BATCH, *shape), np.uint8)
    params, state = steps.initialize(model, transform, image, seed=0)
    variables = {"params": params, **state}

    def logits(variables, x):
        return steps.mean_over_views(model, variables, x, views=views)

    predict = jax.jit(lambda variables, images: logits(variables, transform(images)))
    variables, images = jax.device_put((variables, image))
    return Cost(
        multiply_adds=multiply_adds(logits, variables, jax.eval_shape(transform, images[:1])),
        latency=seconds_of(lambda one=images[:1]: predict(variables, one), over=SECONDS),
        images_per_second=BATCH / seconds_of(lambda: predict(variables, images), over=SECONDS),
    )


def multiply_adds(function: Callable[..., Any], *arguments: Any) -> int:
    """Of the convolutions and matrix products that `function` makes of the arguments: arrays, or their shapes.

    What is padded counts like the rest, as is usual. A loop whose length is not known before it runs counts once.
    """
    with cpu_kernels.use(enabled=False):  # as the architecture says, not as a CPU computes it
        return _count(jax.make_jaxpr(lambda *operands: function(*operands))(*arguments).jaxpr)


def _count(jaxpr: Jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        name, inner = equation.primitive.name, sum(map(_count, jaxprs_in_params(equation.params)))
        if name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            features = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
            total += equation.outvars[0].aval.size * math.prod(kernel) // features
        elif name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += equation.outvars[0].aval.size * math.prod(left[axis] for axis in contracted)
        else:
            total += inner * (equation.params["length"] if name == "scan" else 1)
    return total
