"""Each convolution of the networks by each algorithm: python -m benchmarks.layers --models se_resnet,efficientnet_b0

Milliseconds of the forward pass and of both gradients inside a compiled loop, as training runs them, beside PyTorch in
`channels_last`; the algorithm that `cpu_kernels.convolve` takes is marked. Also the rounding error of the forward pass
against float64, relative to the output's deviation.
"""

import argparse
import dataclasses
import statistics
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from ml_collections import ConfigDict

from benchmarks.tasks import BACKBONES, TASKS
from benchmarks.train import machine, names_in, progress
from imgcls_jax import backend, models
from imgcls_jax.models import cpu_kernels, winograd

MODELS = ["se_resnet", "resnet20", "vgg", *BACKBONES]


@dataclasses.dataclass(frozen=True)
class Layer:
    """A convolution: shapes of its input [N, H, W, C] and kernel, strides, padding as pairs, and groups."""

    image: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, int]
    padding: tuple[tuple[int, int], ...]
    groups: int

    def __str__(self) -> str:
        depthwise = ", depthwise" if self.groups > 1 else f" to {self.kernel[-1]}"
        n, height, width, channels = self.image
        size = f"{self.kernel[0]}x{self.kernel[1]}"
        return f"{n} x {height}x{width}x{channels}{depthwise}, {size}, stride {self.strides[0]}"


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.layers", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--models", type=names_in(MODELS), default=MODELS, help=f"of {', '.join(MODELS)}"
    )
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    backend.configure()
    layers = list(dict.fromkeys(layer for name in options.models for layer in layers_of(name)))
    print(
        f"{machine()}, jax {jax.__version__}; medians of {options.rounds}, ms forward / gradients.\n"
    )
    print(
        "| layer | XLA | direct | own form | PyTorch | error |\n| --- | --- | --- | --- | --- | --- |"
    )
    for number, layer in enumerate(layers, 1):
        progress(f"{number} of {len(layers)}: {layer}")
        print(row(layer, rounds=options.rounds), flush=True)


def layers_of(name: str) -> list[Layer]:
    """The convolutions of a task's model, for a batch of its size."""
    task, layers = TASKS[name], []
    model = models.create(ConfigDict({"name": task.model}), num_classes=task.classes)

    def record(call, arguments, options, context):
        if isinstance(conv := context.module, nn.Conv):
            layers.append(layer_of(conv, arguments[0].shape))
        return call(*arguments, **options)

    image = jax.ShapeDtypeStruct((task.batch_size, *task.image), jnp.float32)
    with nn.intercept_methods(record):
        jax.eval_shape(lambda x: model.init(jax.random.key(0), x), image)
    return layers


def layer_of(conv: nn.Conv, image: tuple[int, ...]) -> Layer:
    strides = conv.strides or 1
    strides = (strides, strides) if isinstance(strides, int) else tuple(strides)
    padding = conv.padding
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(image[1:3], conv.kernel_size, strides, padding)
    if isinstance(padding, int):
        padding = ((padding, padding),) * 2
    groups = conv.feature_group_count
    kernel = (*conv.kernel_size, image[-1] // groups, conv.features)
    return Layer(tuple(image), kernel, strides, tuple(map(tuple, padding)), groups)


def row(layer: Layer, *, rounds: int) -> str:
    """Of the table: each algorithm's times, the chosen one in bold; a dash where there is no such form."""
    random = np.random.default_rng(0)
    x = jnp.asarray(random.normal(size=layer.image), jnp.float32)
    w = jnp.asarray(
        random.normal(size=layer.kernel) / np.sqrt(np.prod(layer.kernel[:3])), jnp.float32
    )
    options = {"dimension_numbers": cpu_kernels.NHWC, "feature_group_count": layer.groups}

    def xla(x, w):
        return lax.conv_general_dilated(x, w, layer.strides, layer.padding, **options)

    def direct(x, w):
        return cpu_kernels.direct_convolve(x, w, layer.strides, layer.padding, (1, 1), None)

    def chosen(x, w):
        return cpu_kernels.convolve(x, w, layer.strides, layer.padding, **options)

    square = layer.kernel[:2] == (3, 3) and layer.strides == (1, 1) and layer.groups == 1
    wide = min(layer.kernel[2:]) >= 16
    own = winograd.convolve if square and wide else chosen
    has_own = layer.groups > 1 or layer.kernel[:2] == (1, 1) or (square and wide)
    # Of XLA the forward pass alone: inside a loop its gradients fall to naive loops, which take up to seconds.
    cells = {"XLA": f"{milliseconds(xla, x, w, rounds=rounds):.1f}", "direct": "-", "own": "-"}
    if layer.groups == 1:
        cells["direct"] = cell(direct, x, w, rounds)
    if has_own:
        cells["own"] = cell(own, x, w, rounds)
    takes_own = has_own and (not square or cpu_kernels.winograd_is_faster(x, w))
    marked = "own" if takes_own else "direct"
    cells[marked] = f"**{cells[marked]}**"
    errors = [
        error(f, xla, x, w)
        for f in ([direct] if layer.groups == 1 else []) + ([own] if has_own else [])
    ]
    words = " / ".join(f"{value:.1e}" for value in errors)
    return f"| {layer} | {' | '.join(cells.values())} | {torch_cell(layer, x, rounds)} | {words} |"


def error(convolve: Callable, reference: Callable, x, w) -> float:
    """Root mean square of the difference from float64, relative to the output's deviation, on up to four images."""
    with jax.enable_x64(True):
        exact = np.asarray(reference(x[:4].astype(jnp.float64), w.astype(jnp.float64)))
    return float(np.std(np.asarray(convolve(x[:4], w)) - exact) / exact.std())


def cell(convolve: Callable, x, w, rounds: int) -> str:
    g = jnp.ones_like(jax.eval_shape(convolve, x, w))

    def gradients(x, w, g):
        return jax.vjp(convolve, x, w)[1](g)

    return f"{milliseconds(convolve, x, w, rounds=rounds):.1f} / {milliseconds(gradients, x, w, g, rounds=rounds):.1f}"


def milliseconds(function: Callable, *arguments, rounds: int, count: int = 4) -> float:
    """Of one call inside a compiled loop: what `count` more iterations take."""
    shapes = jax.eval_shape(function, *arguments)

    @jax.jit
    def run(times, first, *others):
        zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)

        def body(_, carry):
            # Each iteration waits for the one before, through a number that changes nothing.
            nothing = 0 * jax.tree.leaves(carry)[0].ravel()[0]
            changed = first.at[(0,) * first.ndim].add(nothing)
            return function(changed, *others)

        return lax.fori_loop(0, times, body, zeros)

    def seconds(times: int) -> float:
        started = time.perf_counter()
        jax.block_until_ready(run(times, *arguments))
        return time.perf_counter() - started

    seconds(1)
    return statistics.median((seconds(1 + count) - seconds(1)) / count * 1e3 for _ in range(rounds))


def torch_cell(layer: Layer, x, rounds: int, count: int = 4) -> str:
    try:
        import torch
    except ImportError:
        return "-"
    (top, bottom), (left, right) = layer.padding
    image = torch.nn.functional.pad(
        torch.tensor(np.asarray(x)).permute(0, 3, 1, 2), (left, right, top, bottom)
    )
    image = image.contiguous(memory_format=torch.channels_last).requires_grad_()
    features, channels = layer.kernel[3], layer.image[3]
    options = {"stride": layer.strides, "groups": layer.groups, "bias": False}
    conv = torch.nn.Conv2d(channels, features, layer.kernel[:2], **options).to(
        memory_format=torch.channels_last
    )
    y = conv(image)
    g = torch.ones_like(y)

    def forward():
        with torch.no_grad():
            conv(image)

    def gradients():
        torch.autograd.grad(y, (image, conv.weight), g, retain_graph=True)

    def milliseconds_of(function) -> float:
        function()
        times = []
        for _ in range(rounds):
            started = time.perf_counter()
            for _ in range(count):
                function()
            times.append((time.perf_counter() - started) / count * 1e3)
        return statistics.median(times)

    return f"{milliseconds_of(forward):.1f} / {milliseconds_of(gradients):.1f}"


if __name__ == "__main__":
    main(sys.argv[1:])
