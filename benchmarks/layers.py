"""Each convolution of the networks by each algorithm: python -m benchmarks.layers --models vgg

Milliseconds of the forward pass and of both gradients inside a compiled loop, as training runs
them, beside PyTorch in `channels_last`; the algorithm that `cpu_kernels.convolve` takes is marked.
Also the rounding error of the forward pass against float64, relative to the output's standard
deviation.
"""

import dataclasses
import statistics
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array, lax
from ml_collections import ConfigDict

from benchmarks.common import command_line, machine, names_in, progress
from benchmarks.tasks import BACKBONES, TASKS
from imgcls_jax import backend, models
from imgcls_jax.models import cpu_kernels, winograd

MODELS = ["se_resnet", "resnet20", "vgg", *BACKBONES]
ITERATIONS = 4  # whose mean is one measurement
ERROR_IMAGES = 4  # on which the rounding error is measured
MIN_WINOGRAD_CHANNELS = 16


@dataclasses.dataclass(frozen=True)
class Layer:
    """A convolution.

    image: [N, H, W, C] of its input. kernel: [h, w, C / groups, F]. padding: (before, after) of
    height and width.
    """

    image: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, int]
    padding: tuple[tuple[int, int], ...]
    groups: int

    def __str__(self) -> str:
        n, height, width, channels = self.image
        kernel_height, kernel_width, _, features = self.kernel
        kind = f" to {features}"
        if self.is_grouped:
            kind = ", depthwise"
        size = f"{kernel_height}x{kernel_width}"
        stride, _ = self.strides
        return f"{n} x {height}x{width}x{channels}{kind}, {size}, stride {stride}"

    @property
    def is_grouped(self) -> bool:
        return self.groups > 1

    @property
    def is_3x3(self) -> bool:
        """Whether it is an ungrouped 3x3 convolution with stride 1, as Winograd needs."""
        return self.kernel[:2] == (3, 3) and self.strides == (1, 1) and not self.is_grouped

    @property
    def has_winograd(self) -> bool:
        _, _, channels, features = self.kernel
        return self.is_3x3 and min(channels, features) >= MIN_WINOGRAD_CHANNELS

    @property
    def has_own_form(self) -> bool:
        """Whether cpu_kernels has another form of it than the direct one."""
        return self.is_grouped or self.kernel[:2] == (1, 1) or self.has_winograd


def main(arguments: list[str]) -> None:
    parser = command_line("benchmarks.layers", __doc__)
    parser.add_argument(
        "--models",
        type=names_in(MODELS),
        default=MODELS,
        help=f"of {', '.join(MODELS)}",
    )
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    rounds = options.rounds
    backend.configure()
    layers = []
    for name in options.models:
        layers += layers_of(name)
    layers = list(dict.fromkeys(layers))
    print(f"{machine()}, jax {jax.__version__}; medians of {rounds}, ms forward / gradients.\n")
    print("| layer | XLA | direct | own form | PyTorch | error |")
    print("| --- | --- | --- | --- | --- | --- |")
    for number, layer in enumerate(layers, 1):
        progress(f"{number} of {len(layers)}: {layer}")
        print(row(layer, rounds=rounds), flush=True)


def layers_of(name: str) -> list[Layer]:
    """Returns the convolutions of a task's model, for a batch of the task's size."""
    task = TASKS[name]
    model = models.create(ConfigDict({"name": task.model}), num_classes=task.classes)
    layers = []

    def record(call, arguments, options, context):
        if isinstance(context.module, nn.Conv):
            x, *_ = arguments
            layers.append(layer_of(context.module, x.shape))
        return call(*arguments, **options)

    images = jax.ShapeDtypeStruct((task.batch_size, *task.image), jnp.float32)
    with nn.intercept_methods(record):
        jax.eval_shape(lambda x: model.init(jax.random.key(0), x), images)
    return layers


def layer_of(conv: nn.Conv, image: tuple[int, ...]) -> Layer:
    """Returns the layer of a Flax module on images [N, H, W, C]."""
    strides = conv.strides or 1
    if isinstance(strides, int):
        strides = (strides, strides)
    padding = conv.padding
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(image[1:3], conv.kernel_size, strides, padding)
    if isinstance(padding, int):
        padding = ((padding, padding),) * 2
    groups = conv.feature_group_count
    return Layer(
        image=tuple(image),
        kernel=(*conv.kernel_size, image[-1] // groups, conv.features),
        strides=tuple(strides),
        padding=tuple(map(tuple, padding)),
        groups=groups,
    )


def row(layer: Layer, *, rounds: int) -> str:
    """Returns the table's row: each algorithm's times, the chosen one in bold.

    A dash stands for a form that does not exist.
    """
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=layer.image), jnp.float32)
    fan_in = np.prod(layer.kernel[:3])
    w = jnp.asarray(rng.normal(size=layer.kernel) / np.sqrt(fan_in), jnp.float32)
    options = {
        "dimension_numbers": cpu_kernels.NHWC,
        "feature_group_count": layer.groups,
    }

    def xla(x, w):
        return lax.conv_general_dilated(x, w, layer.strides, layer.padding, **options)

    def direct(x, w):
        return cpu_kernels.direct_convolve(x, w, layer.strides, layer.padding, (1, 1), None)

    def own_form(x, w):
        if layer.has_winograd:
            return winograd.convolve(x, w)
        return cpu_kernels.convolve(x, w, layer.strides, layer.padding, **options)

    # XLA's forward pass only: in a loop its gradients are naive loops, which take up to seconds.
    cells = {
        "XLA": f"{milliseconds(xla, x, w, rounds=rounds):.1f}",
        "direct": "-",
        "own form": "-",
    }
    errors = []
    if not layer.is_grouped:
        cells["direct"] = cell(direct, x, w, rounds=rounds)
        errors.append(f"{rounding_error(direct, xla, x, w):.1e}")
    if layer.has_own_form:
        cells["own form"] = cell(own_form, x, w, rounds=rounds)
        errors.append(f"{rounding_error(own_form, xla, x, w):.1e}")
    chosen = "direct"
    if takes_own_form(layer, x, w):
        chosen = "own form"
    cells[chosen] = f"**{cells[chosen]}**"
    times = " | ".join(cells.values())
    return f"| {layer} | {times} | {torch_cell(layer, x, rounds=rounds)} | {' / '.join(errors)} |"


def takes_own_form(
    layer: Layer,
    x: Array,
    w: Array,
) -> bool:
    """Returns whether `cpu_kernels.convolve` takes another form than the direct one."""
    if layer.is_3x3:
        return layer.has_winograd and cpu_kernels.winograd_is_faster(x, w)
    return layer.has_own_form


def rounding_error(
    convolve: Callable,
    reference: Callable,
    x: Array,
    w: Array,
) -> float:
    """Returns the root mean square of the difference from float64.

    It is relative to the output's standard deviation, on up to ERROR_IMAGES images.
    """
    few = x[:ERROR_IMAGES]
    with jax.enable_x64(True):
        exact = reference(few.astype(jnp.float64), w.astype(jnp.float64))
        exact = np.asarray(exact)
    difference = np.asarray(convolve(few, w)) - exact
    return float(np.std(difference) / exact.std())


def cell(
    convolve: Callable,
    x: Array,
    w: Array,
    *,
    rounds: int,
) -> str:
    """Returns the milliseconds of the forward pass and of both gradients."""
    cotangent = jnp.ones_like(jax.eval_shape(convolve, x, w))

    def gradients(x, w, cotangent):
        _, vjp = jax.vjp(convolve, x, w)
        return vjp(cotangent)

    forward_ms = milliseconds(convolve, x, w, rounds=rounds)
    gradients_ms = milliseconds(gradients, x, w, cotangent, rounds=rounds)
    return f"{forward_ms:.1f} / {gradients_ms:.1f}"


def milliseconds(function: Callable, *arguments: Array, rounds: int) -> float:
    """Returns the time of one call inside a compiled loop: that of ITERATIONS more iterations."""
    shapes = jax.eval_shape(function, *arguments)

    @jax.jit
    def repeat(times, first, *others):
        zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)

        def body(_, previous):
            # Each iteration depends on the one before, through a number that changes nothing.
            first_output, *_ = jax.tree.leaves(previous)
            nothing = 0 * first_output.ravel()[0]
            corner = (0,) * first.ndim
            return function(first.at[corner].add(nothing), *others)

        return lax.fori_loop(0, times, body, zeros)

    def seconds(times: int) -> float:
        started = time.perf_counter()
        jax.block_until_ready(repeat(times, *arguments))
        return time.perf_counter() - started

    seconds(1)
    measured = []
    for _ in range(rounds):
        longer = seconds(1 + ITERATIONS)
        measured.append((longer - seconds(1)) / ITERATIONS * 1e3)
    return statistics.median(measured)


def torch_cell(
    layer: Layer,
    x: Array,
    *,
    rounds: int,
) -> str:
    """Returns the same as `cell`, for PyTorch; "-" if it is not installed."""
    try:
        import torch
    except ImportError:
        return "-"
    (top, bottom), (left, right) = layer.padding
    image = torch.tensor(np.asarray(x)).permute(0, 3, 1, 2)
    image = torch.nn.functional.pad(image, (left, right, top, bottom))
    image = image.contiguous(memory_format=torch.channels_last).requires_grad_()
    conv = torch.nn.Conv2d(
        layer.image[3],
        layer.kernel[3],
        layer.kernel[:2],
        stride=layer.strides,
        groups=layer.groups,
        bias=False,
    )
    conv = conv.to(memory_format=torch.channels_last)
    y = conv(image)
    cotangent = torch.ones_like(y)

    def forward():
        with torch.no_grad():
            conv(image)

    def gradients():
        torch.autograd.grad(y, (image, conv.weight), cotangent, retain_graph=True)

    forward_ms = eager_milliseconds(forward, rounds=rounds)
    gradients_ms = eager_milliseconds(gradients, rounds=rounds)
    return f"{forward_ms:.1f} / {gradients_ms:.1f}"


def eager_milliseconds(function: Callable[[], None], *, rounds: int) -> float:
    """Returns the time of one call, the mean of ITERATIONS, after one that warms up."""
    function()
    measured = []
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(ITERATIONS):
            function()
        measured.append((time.perf_counter() - started) / ITERATIONS * 1e3)
    return statistics.median(measured)


if __name__ == "__main__":
    main(sys.argv[1:])
