"""Depthwise convolution and max pool in forms that XLA compiles well for CPUs.

Both work on each channel by itself, and are sums or maxima over the entries of a window; so are their gradients.
`cpu_kernels` says when they are used.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


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
                    yield term(
                        i * window[1] + j,
                        slice(first, first + counts[0]),
                        slice(left, left + counts[1]),
                    )

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
    x = (
        jnp.stack(phases, 3)
        .reshape(n, rows, columns, *strides, channels)
        .transpose(0, 1, 3, 2, 4, 5)
    )
    return x.reshape(n, rows * strides[0], columns * strides[1], channels)


def _with_borders(g, window, strides, value=0):
    """g [N, H', W', C] with as many windows around it as `_gradient_of_windows` may ask for, and their number."""
    borders = [k + s for k, s in zip(window, strides, strict=True)]
    pads = ((0, 0), (borders[0], borders[0]), (borders[1], borders[1]), (0, 0))
    return lax.optimization_barrier(jnp.pad(g, pads, constant_values=value)), borders


def _shifted(slices, borders):
    """The slices of an array with borders."""
    return tuple(
        slice(s.start + border, s.stop + border) for s, border in zip(slices, borders, strict=True)
    )


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
    height, width = (
        (size - 1) * stride + 1 for size, stride in zip((rows, columns), strides, strict=True)
    )
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
