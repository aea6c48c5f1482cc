"""Convolution and recurrence in forms that XLA compiles well for CPUs; other backends keep XLA's own.

XLA's CPU backend has no fast form of some layers and of most of their gradients: depthwise convolutions
are 12 to 60 times slower than need be, a convolution's gradients inside a loop up to 60 times, and the
gradients of a max pool and an LSTM are slow too. The functions here have gradients of their own. They equal
Flax' layers up to rounding.

`convolve` chooses the form by the shapes, from what `python -m benchmarks.layers` measures. `use` changes the choice.
`cpu_windows` has depthwise convolutions and max pools, `winograd` the fast 3x3 convolution.
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


@dataclasses.dataclass(frozen=True)
class Choice:
    """own: whether the forms of this file are used where JAX runs on CPUs; winograd: whether that one is among them."""

    own: bool = True
    winograd: bool = True


_choice = Choice()


@contextlib.contextmanager
def use(*, own: bool = True, winograd: bool = True) -> Iterator[None]:
    """What is traced within it takes its layers so."""
    global _choice
    before, _choice = _choice, Choice(own, winograd)
    try:
        yield
    finally:
        _choice = before


def used() -> bool:
    """Whether layers take the forms of this file."""
    return _choice.own and jax.default_backend() == "cpu"


# ---------------------------------------------------------------------------------------------------------------------
# Convolution


def convolve(
    x, w, strides, padding, *, lhs_dilation=None, rhs_dilation=None, precision=None, **options
):
    """`lax.conv_general_dilated` for `nn.Conv(conv_general_dilated=...)`, fast on CPUs, and so are its gradients.

    x [N, H, W, C], w [h, w, C / groups, F] -> [N, H', W', F]. Transposed convolutions, and grouped ones of more than a
    channel to a group, are left to XLA.
    """
    groups = options.get("feature_group_count", 1)
    dilation = tuple(rhs_dilation or (1, 1))
    depthwise = groups > 1 and w.shape[2] == 1 and w.shape[3] == groups and dilation == (1, 1)
    transposed = any(d != 1 for d in lhs_dilation or ())
    if not used() or x.ndim != 4 or transposed or (groups > 1 and not depthwise):
        dilations = {"lhs_dilation": lhs_dilation, "rhs_dilation": rhs_dilation}
        return lax.conv_general_dilated(
            x, w, strides, padding, precision=precision, **dilations, **options
        )
    strides = tuple(strides)
    if isinstance(padding, str):
        window = [(k - 1) * d + 1 for k, d in zip(w.shape[:2], dilation, strict=True)]
        padding = lax.padtype_to_pads(x.shape[1:3], window, strides, padding)
    padding = tuple(tuple(pads) for pads in padding)
    if depthwise:
        return cpu_windows.depthwise_convolve(x, w, strides, padding)
    if w.shape[:2] == (1, 1) and padding == ((0, 0), (0, 0)):
        return _product(x[:, :: strides[0], :: strides[1]], w[0, 0])
    plain = strides == (1, 1) == dilation and padding == ((1, 1), (1, 1)) and w.shape[:2] == (3, 3)
    if plain and _choice.winograd and winograd_is_faster(x, w):
        return winograd.convolve(x, w)
    return direct_convolve(x, w, strides, padding, dilation, precision)


def winograd_is_faster(x, w) -> bool:
    """Whether it is for x [N, H, W, C] and w [3, 3, C, F], as `python -m benchmarks.layers` measures.

    The transforms of the kernel have to be spread over many tiles, those of the tiles over many channels, and few of
    the outputs of the tiles may be beyond the image. A batch of unknown size is taken to be small.
    """
    n, height, width, channels = x.shape
    if not isinstance(n, int) or not x.dtype == w.dtype == jnp.float32:
        return False
    outputs = winograd.covered(height) * winograd.covered(width)
    many_tiles = n * outputs // winograd.TILE**2 >= max(channels, w.shape[3])
    return many_tiles and min(channels, w.shape[3]) >= 64 and outputs <= 1.3 * height * width


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5))
def direct_convolve(x, w, strides, padding, dilation, precision):
    """XLA's convolution of x [N, H, W, C] and w [h, w, C, F], with gradients that are fast in loops, too."""
    return lax.conv_general_dilated(
        x, w, strides, padding, rhs_dilation=dilation, dimension_numbers=NHWC, precision=precision
    )


def _direct_forward(x, w, strides, padding, dilation, precision):
    return direct_convolve(x, w, strides, padding, dilation, precision), (x, w)


def _direct_backward(strides, padding, dilation, precision, residuals, g):
    x, w = residuals
    # Without the barrier XLA repeats the chain that made x and g inside the transposes below.
    x, g = lax.optimization_barrier((x, g))
    to_x, to_w = [], []
    for size, out, k, s, d, (low, _) in zip(
        x.shape[1:3], g.shape[1:3], w.shape[:2], strides, dilation, padding, strict=True
    ):
        reach, spread = (k - 1) * d, (out - 1) * s + 1
        to_x.append((reach - low, size + low - spread))
        to_w.append((low, reach + spread - size - low))
    # Both are written as plain NHWC, HWIO convolutions: only those stay on XLA's fast path inside a loop.
    dx = lax.conv_general_dilated(
        g,
        jnp.flip(w, (0, 1)).transpose(0, 1, 3, 2),
        (1, 1),
        to_x,
        lhs_dilation=strides,
        rhs_dilation=dilation,
        dimension_numbers=NHWC,
        precision=precision,
    )
    dw = lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0),
        g.transpose(1, 2, 0, 3),
        dilation,
        to_w,
        rhs_dilation=strides,
        dimension_numbers=NHWC,
        precision=precision,
    )
    return dx, dw.transpose(1, 2, 0, 3)


direct_convolve.defvjp(_direct_forward, _direct_backward)


def dense_product(x, kernel, dimensions, precision=None, **options):
    """`lax.dot_general` for `nn.Dense(dot_general=...)`: x [..., C], kernel [C, F] -> [..., F]."""
    if not used():
        return lax.dot_general(x, kernel, dimensions, precision=precision, **options)
    return _product(x, kernel)


@jax.custom_vjp
def _product(x, w):
    """x [..., C] @ w [C, F]: a dense layer, or a 1x1 convolution."""
    return x @ w


def _product_backward(residuals, g):
    # Without the barrier XLA repeats the chain of operations that made x and g inside both products.
    x, w, g = lax.optimization_barrier((*residuals, g))
    dx = lax.dot_general(g, w, (((g.ndim - 1,), (1,)), ((), ())))
    x, g = x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1])
    rows = (((0,), (0,)), ((), ()))
    # The faster of the two has the narrow one first.
    dw = lax.dot_general(x, g, rows) if w.shape[0] <= w.shape[1] else lax.dot_general(g, x, rows).T
    return dx, dw


_product.defvjp(lambda x, w: (_product(x, w), (x, w)), _product_backward)


# ---------------------------------------------------------------------------------------------------------------------
# LSTM


def lstm_cell(carry, projected, recurrent_kernel):
    """One step: (c, h) [N, F] and the projected input [N, 4 F] -> the next (c, h), and the activated gates."""
    c, h = carry
    i, f, g, o = jnp.split(projected + h @ recurrent_kernel, 4, -1)
    i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
    c = f * c + i * g
    return (c, o * jnp.tanh(c)), (i, f, g, o)


def _zero_state(projected, recurrent_kernel):
    zeros = jnp.zeros((projected.shape[1], recurrent_kernel.shape[0]), projected.dtype)
    return zeros, zeros


def recur(projected, recurrent_kernel):
    """projected [T, N, 4 F], recurrent_kernel [F, 4 F] -> hidden states [T, N, F]."""
    return (_recur if used() else _recur_plain)(projected, recurrent_kernel)


def _recur_plain(projected, recurrent_kernel):
    def step(carry, x):
        carry, _ = lstm_cell(carry, x, recurrent_kernel)
        return carry, carry[1]

    return lax.scan(step, _zero_state(projected, recurrent_kernel), projected)[1]


def _product_over_steps(a, d):
    """a [T, N, A], d [T, N, D] -> [A, D]. The barrier has `a` transposed once: XLA's fast product takes no other."""
    return lax.optimization_barrier(a.reshape(-1, a.shape[-1]).T) @ d.reshape(-1, d.shape[-1])


@jax.custom_vjp
def project(x, kernel):
    """x [T, N, C] @ kernel [C, 4 F]."""
    return x @ kernel


project.defvjp(
    lambda x, kernel: (x @ kernel, (x, kernel)),
    lambda residuals, d: (d @ residuals[1].T, _product_over_steps(residuals[0], d)),
)

_recur = jax.custom_vjp(_recur_plain)


def _recur_forward(projected, recurrent_kernel):
    def step(carry, x):
        carry, gates = lstm_cell(carry, x, recurrent_kernel)
        return carry, (*carry, *gates)

    c, h, *gates = lax.scan(step, _zero_state(projected, recurrent_kernel), projected)[1]
    return h, (c, h, gates, recurrent_kernel)


def _recur_backward(residuals, dh_above):
    c, h, gates, recurrent_kernel = residuals

    def shift(a):
        return jnp.concatenate([jnp.zeros_like(a[:1]), a[:-1]])

    def step(carry, at_step):
        dc, dh = carry
        dh_above, c, c_before, i, f, g, o = at_step
        dh = dh + dh_above
        tanh_c = jnp.tanh(c)
        dc = dc + dh * o * (1 - tanh_c**2)
        gradients = [
            dc * g * i * (1 - i),
            dc * c_before * f * (1 - f),
            dc * i * (1 - g**2),
            dh * tanh_c * o * (1 - o),
        ]
        d = jnp.concatenate(gradients, -1)
        return (dc * f, d @ transposed), d

    transposed = lax.optimization_barrier(recurrent_kernel.T)
    zeros = jnp.zeros_like(h[0])
    d = lax.scan(step, (zeros, zeros), (dh_above, c, shift(c), *gates), reverse=True)[1]
    return d, _product_over_steps(shift(h), d)


_recur.defvjp(_recur_forward, _recur_backward)
