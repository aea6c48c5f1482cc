"""Convolution, pooling and recurrence in forms that XLA compiles well for CPUs; other backends keep XLA's own.

XLA's CPU backend has no fast form of some layers and of most of their gradients: depthwise convolutions
are 12 to 60 times slower than need be, a convolution's gradients inside a loop up to 60 times, and the
gradients of a max pool and an LSTM are slow too. The functions here have gradients of their own. They equal
Flax' layers up to rounding.

`convolve` chooses the form by the shapes, from what `python -m benchmarks.layers` measures. `use` changes the choice.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from imgcls_jax.models import winograd

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


def convolve(x, w, strides, padding, *, lhs_dilation=None, rhs_dilation=None, precision=None, **options):
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
        return lax.conv_general_dilated(x, w, strides, padding, precision=precision, **dilations, **options)
    strides = tuple(strides)
    if isinstance(padding, str):
        window = [(k - 1) * d + 1 for k, d in zip(w.shape[:2], dilation, strict=True)]
        padding = lax.padtype_to_pads(x.shape[1:3], window, strides, padding)
    padding = tuple(tuple(pads) for pads in padding)
    if depthwise:
        return depthwise_convolve(x, w, strides, padding)
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
# Layers that work on each channel by itself: sums and maxima over the entries of a window


def _entries(x, window, strides):
    """What each window of the padded x [N, H, W, C] has at its first, second, ... place: arrays [N, H', W', C]."""
    size = [(n - k) // s * s + 1 for n, k, s in zip(x.shape[1:3], window, strides, strict=True)]
    for i in range(window[0]):
        for j in range(window[1]):
            yield x[:, i : i + size[0] : strides[0], j : j + size[1] : strides[1]]


def _gradient_of_windows(size, window, strides, padding, term):
    """The gradient [N, H, W, C] of an input of height and width `size`, of which `_entries` took the padded form.

    term(place, rows, columns): what a window's gradient adds to its entry at that place, [N, rows, columns, C], for the
    windows in these two slices; windows of negative numbers, or beyond the last, add zeros.
    """
    counts = [-(-n // s) for n, s in zip(size, strides, strict=True)]

    def contributions(row: int, column: int):
        """All that is added to the entries at `row` + n * strides[0], `column` + m * strides[1]."""
        for i in range(window[0]):
            for j in range(window[1]):
                first, rest = divmod(row + padding[0][0] - i, strides[0])
                left, rest_of_column = divmod(column + padding[1][0] - j, strides[1])
                if not rest and not rest_of_column:
                    yield term(i * window[1] + j, slice(first, first + counts[0]), slice(left, left + counts[1]))

    phases = []
    for row in range(strides[0]):
        for column in range(strides[1]):
            parts = list(contributions(row, column))
            phases.append(sum(parts[1:], parts[0]) if parts else None)
    shape = next(phase for phase in phases if phase is not None)
    phases = [jnp.zeros_like(shape) if phase is None else phase for phase in phases]
    return _interleaved(phases, strides)[:, : size[0], : size[1]]


def _interleaved(phases, strides):
    """One array [N, H, W, C] of its parts: part i * strides[1] + j is [:, i :: strides[0], j :: strides[1]] of it."""
    if len(phases) == 1:
        return phases[0]
    n, rows, columns, channels = phases[0].shape
    x = jnp.stack(phases, 3).reshape(n, rows, columns, *strides, channels).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, rows * strides[0], columns * strides[1], channels)


def _with_borders(g, window, strides, value=0):
    """g [N, H', W', C] with as many windows around it as `_gradient_of_windows` may ask for, and their number."""
    borders = [k + s for k, s in zip(window, strides, strict=True)]
    pads = ((0, 0), (borders[0], borders[0]), (borders[1], borders[1]), (0, 0))
    return lax.optimization_barrier(jnp.pad(g, pads, constant_values=value)), borders


def _shifted(slices, borders):
    """The slices of an array with borders."""
    return tuple(slice(s.start + border, s.stop + border) for s, border in zip(slices, borders, strict=True))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise_convolve(x, w, strides, padding):
    """Every channel by a filter of its own: x [N, H, W, C], w [h, w, 1, C] -> [N, H', W', C]; sums are float32."""
    x = _padded(x, padding)
    taps = w.reshape(-1, w.shape[-1]).astype(_exact(x))
    parts = [part * tap for part, tap in zip(_entries(x, w.shape[:2], strides), taps, strict=True)]
    return lax.optimization_barrier(sum(parts[1:], parts[0]).astype(x.dtype))


def _depthwise_forward(x, w, strides, padding):
    return depthwise_convolve(x, w, strides, padding), (x, w)


def _depthwise_backward(strides, padding, residuals, g):
    x, w = lax.optimization_barrier(residuals)
    window = w.shape[:2]
    taps = w.reshape(-1, w.shape[-1]).astype(_exact(x))
    borders_of_g, borders = _with_borders(g, window, strides)

    def term(place, *windows):
        return borders_of_g[:, *_shifted(windows, borders)] * taps[place]

    dx = _gradient_of_windows(x.shape[1:3], window, strides, padding, term).astype(x.dtype)
    dw = _depthwise_weight_gradient(_padded(x, padding), g, window, strides)
    return dx, dw.reshape(w.shape).astype(w.dtype)


depthwise_convolve.defvjp(_depthwise_forward, _depthwise_backward)


def _depthwise_weight_gradient(x, g, window, strides):
    """For each place in a window the sums of x * g over all windows: padded x, g [N, H', W', C] -> [places, C].

    XLA's own sum over the outer axes of a large array is not vectorized: up to 16 examples are summed in one operation,
    what is left of them by a matrix product. A loop over the window's rows has this compiled once for all of them.
    """
    count = max(divisor for divisor in range(1, 17) if len(g) % divisor == 0)
    x, g = (array.reshape(-1, count, *array.shape[1:]).astype(_exact(array)) for array in (x, g))
    groups, _, rows, columns, channels = g.shape
    height, width = ((size - 1) * stride + 1 for size, stride in zip((rows, columns), strides, strict=True))
    ones = jnp.ones(groups * rows * columns, g.dtype)

    def sums_of_row(row):
        entries = lax.dynamic_slice_in_dim(x, row, height, 2)[:, :, :: strides[0]]
        sums = []
        for column in range(window[1]):
            shifted = entries[:, :, :, column : column + width : strides[1]]
            terms = [shifted[:, i] * g[:, i] for i in range(count)]
            partial = lax.optimization_barrier(sum(terms[1:], terms[0]))
            sums.append(ones @ partial.reshape(-1, channels))
        return jnp.stack(sums)

    return lax.map(sums_of_row, jnp.arange(window[0])).reshape(-1, channels)


def _exact(x):
    """The type in which sums of x are computed."""
    return jnp.promote_types(x.dtype, jnp.float32)


def _padded(x, padding, value=0):
    if not np.any(padding):
        return x
    return lax.optimization_barrier(jnp.pad(x, ((0, 0), *padding, (0, 0)), constant_values=value))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def max_pool(x, window, strides, padding):
    """The largest entry of each window of x [N, H, W, C]: [N, H', W', C]."""
    return functools.reduce(jnp.maximum, _entries(_padded(x, padding, -np.inf), window, strides))


def _max_pool_forward(x, window, strides, padding):
    y = max_pool(x, window, strides, padding)
    return y, (x, y)


def _max_pool_backward(window, strides, padding, residuals, g):
    x, y = residuals
    # Of equal entries the first takes the gradient, as in XLA's own.
    if window == strides and not np.any(padding):
        return (_gradient_of_tiles(x, y, g, window),)
    largest = jnp.full(y.shape, -1, jnp.int8)
    for place, entry in enumerate(_entries(_padded(x, padding, -np.inf), window, strides)):
        largest = jnp.where((entry == y) & (largest < 0), jnp.int8(place), largest)
    largest, borders = _with_borders(largest, window, strides, -1)
    g, _ = _with_borders(g, window, strides)

    def term(place, *windows):
        windows = _shifted(windows, borders)
        return jnp.where(largest[:, *windows] == place, g[:, *windows], 0)

    return (_gradient_of_windows(x.shape[1:3], window, strides, padding, term),)


def _gradient_of_tiles(x, y, g, window):
    """The gradient of a max pool whose windows neither overlap nor leave gaps."""
    taken, parts = jnp.zeros(y.shape, bool), []
    for entry in _entries(x, window, window):
        is_largest = (entry == y) & ~taken
        parts.append(jnp.where(is_largest, g, 0))
        taken |= is_largest
    dx = _interleaved(parts, window)
    rest = [(0, size - covered) for size, covered in zip(x.shape, dx.shape, strict=True)]
    return jnp.pad(dx, rest)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


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
        gradients = [dc * g * i * (1 - i), dc * c_before * f * (1 - f), dc * i * (1 - g**2), dh * tanh_c * o * (1 - o)]
        d = jnp.concatenate(gradients, -1)
        return (dc * f, d @ transposed), d

    transposed = lax.optimization_barrier(recurrent_kernel.T)
    zeros = jnp.zeros_like(h[0])
    d = lax.scan(step, (zeros, zeros), (dh_above, c, shift(c), *gates), reverse=True)[1]
    return d, _product_over_steps(shift(h), d)


_recur.defvjp(_recur_forward, _recur_backward)
