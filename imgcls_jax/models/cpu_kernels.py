"""Convolutions and dense layers in forms that XLA compiles well for CPUs.

Other backends keep XLA's own. XLA's CPU backend has no fast form of some layers and of most of
their gradients: depthwise convolutions take 12 to 60 times longer than they need, a convolution's
gradients inside a loop up to 60 times, and the gradients of max pools and LSTMs are slow too. The
functions here, in `cpu_windows` (depthwise convolution, max pool), `winograd` (3x3 convolution) and
`cpu_lstm` have their own gradients. Their numbers equal those of Flax' layers up to rounding.

`convolve` chooses the form by the shapes, as measured by `python -m benchmarks.layers`; `use`
changes the choice.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax import lax

from imgcls_jax.models import cpu_windows, winograd

NHWC = ("NHWC", "HWIO", "NHWC")
WINOGRAD_MIN_CHANNELS = 64
WINOGRAD_MAX_OVERHEAD = 1.3  # outputs of all tiles, as a multiple of the image's


@dataclasses.dataclass(frozen=True)
class _Choice:
    enabled: bool = True
    winograd: bool = True


_choice = _Choice()


@contextlib.contextmanager
def use(*, enabled: bool = True, winograd: bool = True) -> Iterator[None]:
    """Sets what layers traced in this context use on CPUs.

    enabled: the forms of this package, otherwise XLA's, whatever is set further in. winograd:
    Winograd's convolution, where it is faster.
    """
    global _choice
    previous = _choice
    _choice = _Choice(previous.enabled and enabled, winograd)
    try:
        yield
    finally:
        _choice = previous


def enabled() -> bool:
    """Returns whether layers use the forms of this package.

    That is where JAX runs on CPUs, unless `use` has disabled them.
    """
    return _choice.enabled and jax.default_backend() == "cpu"


# ---------------------------------------------------------------------------------------------
# Convolution


def convolve(
    x, w, strides, padding, *, lhs_dilation=None, rhs_dilation=None, precision=None, **options
):
    """`lax.conv_general_dilated` for `nn.Conv(conv_general_dilated=...)`, fast on CPUs.

    x [N, H, W, C], w [h, w, C / groups, F] -> [N, H', W', F]. XLA computes transposed convolutions,
    and grouped ones that are not depthwise.
    """
    groups = options.get("feature_group_count", 1)
    dilation = tuple(rhs_dilation or (1, 1))
    is_depthwise = _is_depthwise(w, groups, dilation)
    is_grouped = groups > 1 and not is_depthwise
    is_transposed = any(factor != 1 for factor in lhs_dilation or ())
    if not enabled() or x.ndim != 4 or is_transposed or is_grouped:
        return lax.conv_general_dilated(
            x,
            w,
            strides,
            padding,
            lhs_dilation=lhs_dilation,
            rhs_dilation=rhs_dilation,
            precision=precision,
            **options,
        )

    strides = tuple(strides)
    padding = _explicit_padding(x, w, strides, padding, dilation)
    if is_depthwise:
        return cpu_windows.depthwise_convolve(x, w, strides, padding)
    if _is_pointwise(w, padding):
        row_stride, column_stride = strides
        return _product(x[:, ::row_stride, ::column_stride], w[0, 0])
    if _choice.winograd and _is_plain_3x3(w, strides, padding, dilation):
        if winograd_is_faster(x, w):
            return winograd.convolve(x, w)
    return direct_convolve(x, w, strides, padding, dilation, precision)


def _is_depthwise(w, groups: int, dilation: tuple[int, ...]) -> bool:
    """Whether each channel has its own filter, without dilation."""
    return groups > 1 and w.shape[2:] == (1, groups) and dilation == (1, 1)


def _is_pointwise(w, padding) -> bool:
    """Whether it is a 1x1 convolution without padding."""
    return w.shape[:2] == (1, 1) and padding == ((0, 0), (0, 0))


def _is_plain_3x3(w, strides, padding, dilation) -> bool:
    """Whether it is a 3x3 convolution with stride 1 and a border of 1."""
    if w.shape[:2] != (3, 3) or padding != ((1, 1), (1, 1)):
        return False
    return strides == dilation == (1, 1)


def _explicit_padding(x, w, strides, padding, dilation):
    """((above, below), (left, right)) for any padding that `lax.conv_general_dilated` accepts."""
    if isinstance(padding, str):
        window = []
        for size, factor in zip(w.shape[:2], dilation, strict=True):
            window.append((size - 1) * factor + 1)
        padding = lax.padtype_to_pads(x.shape[1:3], window, strides, padding)
    return tuple(tuple(pads) for pads in padding)


def winograd_is_faster(x, w) -> bool:
    """Returns whether Winograd's form is faster for x [N, H, W, C] and w [3, 3, C, F].

    That is as `python -m benchmarks.layers` measured it: the kernel's transform must be shared by
    many tiles, the tiles' transforms by many channels, and few outputs of the tiles may be outside
    the image. A batch of symbolic size counts as small.
    """
    batch_size, height, width, channels = x.shape
    features = w.shape[3]
    is_float32 = x.dtype == w.dtype == jnp.float32
    if not isinstance(batch_size, int) or not is_float32:
        return False
    outputs = winograd.covered(height) * winograd.covered(width)
    tiles = batch_size * outputs // winograd.TILE**2
    if tiles < max(channels, features) or min(channels, features) < WINOGRAD_MIN_CHANNELS:
        return False
    return outputs <= WINOGRAD_MAX_OVERHEAD * height * width


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5))
def direct_convolve(x, w, strides, padding, dilation, precision):
    """XLA's convolution of x [N, H, W, C] and w [h, w, C, F], with gradients fast in loops too."""
    return lax.conv_general_dilated(
        x, w, strides, padding, rhs_dilation=dilation, dimension_numbers=NHWC, precision=precision
    )


def _direct_forward(x, w, strides, padding, dilation, precision):
    return direct_convolve(x, w, strides, padding, dilation, precision), (x, w)


def _direct_backward(strides, padding, dilation, precision, residuals, g):
    """Both gradients as NHWC, HWIO convolutions: only those stay fast inside a loop."""
    x, w = residuals
    # Without the barrier XLA repeats the operations that made x and g inside the transposes below.
    x, g = lax.optimization_barrier((x, g))
    x_padding = []
    w_padding = []
    for axis in range(2):
        low, _ = padding[axis]
        size = x.shape[1 + axis]
        window_span = (w.shape[axis] - 1) * dilation[axis]
        output_span = (g.shape[1 + axis] - 1) * strides[axis] + 1
        x_padding.append((window_span - low, size + low - output_span))
        w_padding.append((low, window_span + output_span - size - low))

    flipped = jnp.flip(w, (0, 1))
    flipped = flipped.transpose(0, 1, 3, 2)
    dx = lax.conv_general_dilated(
        g,
        flipped,
        (1, 1),
        x_padding,
        lhs_dilation=strides,
        rhs_dilation=dilation,
        dimension_numbers=NHWC,
        precision=precision,
    )
    dw = lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0),
        g.transpose(1, 2, 0, 3),
        dilation,
        w_padding,
        rhs_dilation=strides,
        dimension_numbers=NHWC,
        precision=precision,
    )
    return dx, dw.transpose(1, 2, 0, 3)


direct_convolve.defvjp(_direct_forward, _direct_backward)


# ---------------------------------------------------------------------------------------------
# Dense layers and 1x1 convolutions


def dense_product(x, kernel, dimensions, precision=None, **options):
    """`lax.dot_general` for `nn.Dense(dot_general=...)`: x [..., C], kernel [C, F] -> [..., F]."""
    if enabled():
        return _product(x, kernel)
    return lax.dot_general(x, kernel, dimensions, precision=precision, **options)


@jax.custom_vjp
def _product(x, w):
    """x [..., C] @ w [C, F] -> [..., F]."""
    return x @ w


def _product_forward(x, w):
    return _product(x, w), (x, w)


def _product_backward(residuals, g):
    x, w = residuals
    # Without the barrier XLA repeats the operations that made x and g inside both products.
    x, w, g = lax.optimization_barrier((x, w, g))
    channels, features = w.shape
    contract_features = (((g.ndim - 1,), (1,)), ((), ()))
    dx = lax.dot_general(g, w, contract_features)

    x = x.reshape(-1, channels)
    g = g.reshape(-1, features)
    contract_rows = (((0,), (0,)), ((), ()))
    if channels <= features:  # XLA's product is faster with the narrow operand first
        return dx, lax.dot_general(x, g, contract_rows)
    return dx, lax.dot_general(g, x, contract_rows).T


_product.defvjp(_product_forward, _product_backward)
