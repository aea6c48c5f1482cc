"""Depthwise convolution and max pool in forms that XLA compiles well for CPUs.

Both work on each channel by itself, on windows of k x l entries. XLA's CPU backend has only naive
loops for them and for their gradients. Here they are sums or maxima of k * l strided slices of the
input, one for each position in the window, which XLA fuses into vectorized loops; the gradients are
sums of slices of the output's gradient. `cpu_kernels` says when they are used. Their numbers equal
XLA's up to rounding.

Names: a window has `positions` numbered row by row, a `tap` is a filter's weight at a position, and
an `entry` is what all windows have at one position, [N, H', W', C].
"""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

MAX_SUMMED_EXAMPLES = 16  # summed by one fused operation in the gradient of depthwise filters


# ---------------------------------------------------------------------------------------------
# Depthwise convolution


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise_convolve(x, w, strides, padding):
    """Filters each channel of x [N, H, W, C] by w [h, w, 1, C] -> [N, H', W', C]; sums are float32.

    strides: (rows, columns). padding: ((above, below), (left, right)).
    """
    x = _padded(x, padding)
    taps = _taps(w, x)
    entries = _entries(x, w.shape[:2], strides)
    terms = [entry * tap for entry, tap in zip(entries, taps, strict=True)]
    y = _sum(terms).astype(x.dtype)
    return lax.optimization_barrier(y)


def _depthwise_forward(x, w, strides, padding):
    return depthwise_convolve(x, w, strides, padding), (x, w)


def _depthwise_backward(strides, padding, residuals, g):
    x, w = lax.optimization_barrier(residuals)
    window = w.shape[:2]
    taps = _taps(w, x)
    bordered_g = _with_borders(g, window, strides)

    def gradient_at(position, rows, columns):
        return bordered_g[:, rows, columns] * taps[position]

    dx = _gradient_of_windows(x.shape[1:3], window, strides, padding, gradient_at)
    dx = dx.astype(x.dtype)
    dw = _depthwise_weight_gradient(_padded(x, padding), g, window, strides)
    dw = dw.reshape(w.shape)
    return dx, dw.astype(w.dtype)


depthwise_convolve.defvjp(_depthwise_forward, _depthwise_backward)


def _taps(w, x):
    """The taps [positions, C] of w [h, w, 1, C], in the type in which sums of x are computed."""
    taps = w.reshape(-1, w.shape[-1])
    return taps.astype(_sum_dtype(x))


def _depthwise_weight_gradient(x, g, window, strides):
    """The sums of x * g over all windows, for each position of the window.

    Padded x [N, H, W, C], g [N, H', W', C] -> [positions, C].

    XLA does not vectorize its own sum over the outer axes of a large array. So one operation sums
    up to 16 examples, and a matrix product sums what remains. A loop over the window's rows makes
    XLA compile this once for all rows.
    """
    group_size = _largest_divisor(len(g), MAX_SUMMED_EXAMPLES)
    x = _in_groups(x, group_size).astype(_sum_dtype(x))
    g = _in_groups(g, group_size).astype(_sum_dtype(g))
    groups, _, rows, columns, channels = g.shape
    row_stride, column_stride = strides
    height = (rows - 1) * row_stride + 1
    width = (columns - 1) * column_stride + 1
    ones = jnp.ones(groups * rows * columns, g.dtype)

    def sums_of_row(row):
        row_entries = lax.dynamic_slice_in_dim(x, row, height, 2)
        row_entries = row_entries[:, :, ::row_stride]
        sums = []
        for column in range(window[1]):
            entry = row_entries[:, :, :, column : column + width : column_stride]
            terms = [entry[:, i] * g[:, i] for i in range(group_size)]
            partial_sums = lax.optimization_barrier(_sum(terms))
            sums.append(ones @ partial_sums.reshape(-1, channels))
        return jnp.stack(sums)

    sums = lax.map(sums_of_row, jnp.arange(window[0]))
    return sums.reshape(-1, channels)


def _in_groups(x, group_size: int):
    """[N, ...] -> [N / group_size, group_size, ...]."""
    return x.reshape(-1, group_size, *x.shape[1:])


def _largest_divisor(number: int, limit: int) -> int:
    return max(divisor for divisor in range(1, limit + 1) if number % divisor == 0)


# ---------------------------------------------------------------------------------------------
# Max pool


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def max_pool(x, window, strides, padding):
    """The largest entry of each window of x [N, H, W, C] -> [N, H', W', C].

    Of equal entries the first takes the gradient, as in XLA's max pool.
    """
    entries = _entries(_padded(x, padding, -np.inf), window, strides)
    return functools.reduce(jnp.maximum, entries)


def _max_pool_forward(x, window, strides, padding):
    y = max_pool(x, window, strides, padding)
    return y, (x, y)


def _max_pool_backward(window, strides, padding, residuals, g):
    x, y = residuals
    if window == strides and not np.any(padding):
        return (_gradient_of_tiles(x, y, g, window),)

    # The position of each window's first largest entry, [N, H', W', C].
    largest = jnp.full(y.shape, -1, jnp.int8)
    entries = _entries(_padded(x, padding, -np.inf), window, strides)
    for position, entry in enumerate(entries):
        is_first = (entry == y) & (largest < 0)
        largest = jnp.where(is_first, jnp.int8(position), largest)
    largest = _with_borders(largest, window, strides, value=-1)
    bordered_g = _with_borders(g, window, strides)

    def gradient_at(position, rows, columns):
        is_largest = largest[:, rows, columns] == position
        return jnp.where(is_largest, bordered_g[:, rows, columns], 0)

    return (_gradient_of_windows(x.shape[1:3], window, strides, padding, gradient_at),)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _gradient_of_tiles(x, y, g, window):
    """The gradient of a max pool whose windows neither overlap nor leave gaps."""
    is_taken = jnp.zeros(y.shape, bool)
    gradients = []
    for entry in _entries(x, window, window):
        is_largest = (entry == y) & ~is_taken
        gradients.append(jnp.where(is_largest, g, 0))
        is_taken |= is_largest
    dx = _interleaved(gradients, window)
    pads = []
    for size, covered in zip(x.shape, dx.shape, strict=True):
        pads.append((0, size - covered))
    return jnp.pad(dx, pads)


# ---------------------------------------------------------------------------------------------
# Windows


def _entries(x, window, strides):
    """Yields the entry [N, H', W', C] of padded x [N, H, W, C] at each position of the window."""
    sizes = []
    for size, kernel, stride in zip(x.shape[1:3], window, strides, strict=True):
        sizes.append((size - kernel) // stride * stride + 1)
    height, width = sizes
    row_stride, column_stride = strides
    for i in range(window[0]):
        for j in range(window[1]):
            yield x[:, i : i + height : row_stride, j : j + width : column_stride]


def _gradient_of_windows(size, window, strides, padding, gradient_at):
    """The gradient [N, H, W, C] of an input of height and width `size`.

    Its padded form was the argument of `_entries`.

    gradient_at(position, rows, columns): what the windows in these two slices add to their entries
    at a position, [N, rows, columns, C]. The slices count from `_with_borders`' first window.

    The input's rows r * stride + phase, for one phase, get their gradient from the same positions
    of a window, each of them from a contiguous slice of windows. So each pair of phases is computed
    at once, and all are interleaved.
    """
    phases = []
    for row in range(strides[0]):
        row_terms = _windows_of_phase(row, 0, size, window, strides, padding)
        for column in range(strides[1]):
            column_terms = _windows_of_phase(column, 1, size, window, strides, padding)
            terms = []
            for i, rows in row_terms:
                for j, columns in column_terms:
                    terms.append(gradient_at(i * window[1] + j, rows, columns))
            phases.append(_sum(terms) if terms else None)

    example = next(phase for phase in phases if phase is not None)
    for i, phase in enumerate(phases):
        if phase is None:
            phases[i] = jnp.zeros_like(example)
    height, width = size
    return _interleaved(phases, strides)[:, :height, :width]


def _windows_of_phase(phase, axis, size, window, strides, padding):
    """The offsets in a window at which it has inputs of this phase along an axis.

    Each comes with the slice of the windows that have such an input there.
    """
    stride = strides[axis]
    count = -(-size[axis] // stride)
    border = _border(axis, window, strides)
    low, _ = padding[axis]
    windows = []
    for offset in range(window[axis]):
        first, remainder = divmod(phase + low - offset, stride)
        if remainder == 0:
            windows.append((offset, slice(first + border, first + border + count)))
    return windows


def _border(axis: int, window, strides) -> int:
    """How many windows beyond the first or last one `_gradient_of_windows` may ask for, at most."""
    return window[axis] + strides[axis]


def _with_borders(g, window, strides, value=0):
    """g [N, H', W', C] with a border of `value`, for windows beyond the first and the last."""
    rows = _border(0, window, strides)
    columns = _border(1, window, strides)
    pads = ((0, 0), (rows, rows), (columns, columns), (0, 0))
    return lax.optimization_barrier(jnp.pad(g, pads, constant_values=value))


def _interleaved(phases, strides):
    """One array x [N, H, W, C] of its phases.

    Phase i * strides[1] + j is x[:, i :: strides[0], j :: strides[1]].
    """
    if len(phases) == 1:
        return phases[0]
    n, rows, columns, channels = phases[0].shape
    row_stride, column_stride = strides
    x = jnp.stack(phases, 3)
    x = x.reshape(n, rows, columns, row_stride, column_stride, channels)
    x = x.transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, rows * row_stride, columns * column_stride, channels)


def _padded(x, padding, value=0):
    """x [N, H, W, C] with ((above, below), (left, right)) rows and columns of `value` around it."""
    if not np.any(padding):
        return x
    pads = ((0, 0), *padding, (0, 0))
    return lax.optimization_barrier(jnp.pad(x, pads, constant_values=value))


def _sum(terms):
    """The sum of a list of arrays, without the zero that Python's own begins with."""
    return functools.reduce(operator.add, terms)


def _sum_dtype(x):
    """The type in which sums of x are computed."""
    return jnp.promote_types(x.dtype, jnp.float32)
