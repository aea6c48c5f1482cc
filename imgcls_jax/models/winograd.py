"""3x3 convolutions with stride 1 by Winograd's F(4x4, 3x3) (Lavin and Gray, 2015, arXiv:1509.09308), for CPUs.

An output tile of 4x4 takes 36 products for each pair of channels instead of 144. The input is cut into tiles of
6x6 that overlap by two, V = B^T x B; the products are M = V U with the transformed kernel U = G w G^T, one matrix
product for each of the 36 places; the output is y = A^T M A. The gradients are the transposes of the same maps:
D = A g A^T serves both, dx is the overlapping sum of B (D U^T) B^T, and dw = G^T (V^T D) G.

The polynomials' points are 0, +-sqrt(1/2), +-sqrt(2) and infinity. They cost what the usual 0, +-1, +-2 cost, and
their rounding errors are half as large: `python -m benchmarks.layers` states them.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

TILE = 4  # outputs of a tile, along each side
SPAN = TILE + 2  # inputs of a tile
PLACES = SPAN * SPAN
POINTS = (0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5))


def _toom_cook() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A^T [4, 6], G [6, 3] and B^T [6, 6], float32, from POINTS and infinity."""
    a_t = np.array([[p**i for p in POINTS] + [float(i == TILE - 1)] for i in range(TILE)])
    scale = [np.prod([p - q for q in POINTS if q != p]) for p in POINTS]
    g = np.array(
        [[p**i / s for i in range(3)] for p, s in zip(POINTS, scale, strict=True)] + [[0, 0, 1]]
    )
    # B^T follows from what defines the others: sum_m A^T[i, m] G[m, j] B^T[m, k] is 1 where k = i + j, and else 0.
    products = np.einsum("ik,kj->ijk", a_t, g).reshape(-1, SPAN)
    shifts = np.array(
        [[float(k == i + j) for k in range(SPAN)] for i in range(TILE) for j in range(3)]
    )
    b_t = np.linalg.lstsq(products, shifts, rcond=None)[0]
    b_t[np.abs(b_t) < 1e-12] = 0
    return a_t.astype(np.float32), g.astype(np.float32), b_t.astype(np.float32)


A_T, G, B_T = _toom_cook()


@jax.custom_vjp
def convolve(x, w):
    """x float32 [N, H, W, C], w float32 [3, 3, C, F] -> [N, H, W, F]: stride 1, a border of one row of zeros."""
    return _forward(x, w)[0]


def _forward(x, w):
    n, height, width, _ = x.shape
    kernels = lax.optimization_barrier(_transformed_kernel(w))
    products = _matrix_products(_input_tiles(x), kernels)
    y = _output(products, (n, _tiles(height), _tiles(width), w.shape[-1]))
    return y[:, :height, :width], (x, w)


def _backward(residuals, g):
    x, w = residuals
    # Without the barrier XLA repeats in every transform the chain of operations that made x and g.
    x, g = lax.optimization_barrier((x, g))
    n, height, width, channels = x.shape
    gradients = _gradient_tiles(g)
    kernels = lax.optimization_barrier(_transformed_kernel(w).transpose(0, 2, 1))
    products = _matrix_products(gradients, kernels)
    dx = _overlapping_sum(products, (n, _tiles(height), _tiles(width), channels))
    dw = lax.dot_general(_input_tiles(x), gradients, (((1,), (1,)), ((0,), (0,))))
    dw = _on_both_sides(G.T, dw.reshape(SPAN, SPAN, *w.shape[2:]))
    return dx[:, :height, :width], dw


convolve.defvjp(_forward, _backward)


def covered(size: int) -> int:
    """The rows, or columns, that the tiles over so many outputs have."""
    return _tiles(size) * TILE


def _tiles(size: int) -> int:
    return -(-size // TILE)


def _combine(matrix: np.ndarray, parts, axis: int):
    """The sums over k of matrix[:, k] * parts[k]; the rows of `matrix` are a new axis of the result.

    One operation for all rows, so that XLA compiles one loop and not one for each row.
    """
    total = None
    for column, part in zip(matrix.T, parts, strict=True):
        shape = [1] * (part.ndim + 1)
        shape[axis] = len(column)
        term = column.reshape(shape) * jnp.expand_dims(part, axis)
        total = term if total is None else total + term
    return total


def _transformed_kernel(w):
    """G w G^T: [3, 3, C, F] -> [36, C, F], the place's column before its row."""
    return _on_both_sides(G, w).reshape(PLACES, *w.shape[2:])


def _on_both_sides(matrix: np.ndarray, x):
    """matrix x^T matrix^T over the first two axes of x [m, m, C, F]."""
    x = jnp.tensordot(matrix, x, 1, precision="highest")
    return jnp.tensordot(matrix, x, ((1,), (1,)), precision="highest")


def _input_tiles(x):
    """B^T x B of every tile: [N, H, W, C] -> [36, tiles, C]."""
    n, height, width, channels = x.shape
    rows, columns = _tiles(height), _tiles(width)
    below, right = rows * TILE + 1 - height, columns * TILE + 1 - width
    x = jnp.pad(x, ((0, 0), (1, below), (1, right), (0, 0)))
    last_row, last_column = TILE * (rows - 1) + 1, TILE * (columns - 1) + 1
    by_row = _combine(B_T, [x[:, i : i + last_row : TILE] for i in range(SPAN)], 0)
    by_row = lax.optimization_barrier(by_row)
    by_column = _combine(B_T, [by_row[:, :, :, j : j + last_column : TILE] for j in range(SPAN)], 0)
    return lax.optimization_barrier(by_column.reshape(PLACES, n * rows * columns, channels))


def _gradient_tiles(g):
    """A g A^T of every tile: [N, h, w, F] -> [36, tiles, F]."""
    n, height, width, features = g.shape
    rows, columns = _tiles(height), _tiles(width)
    g = jnp.pad(g, ((0, 0), (0, rows * TILE - height), (0, columns * TILE - width), (0, 0)))
    g = g.reshape(n, rows, TILE, columns * TILE, features)
    by_row = lax.optimization_barrier(_combine(A_T.T, [g[:, :, i] for i in range(TILE)], 0))
    by_row = by_row.reshape(SPAN, n, rows, columns, TILE, features)
    by_column = _combine(A_T.T, [by_row[:, :, :, :, j] for j in range(TILE)], 0)
    return lax.optimization_barrier(by_column.reshape(PLACES, n * rows * columns, features))


def _matrix_products(tiles, kernels):
    """[36, tiles, C] and [36, C, F] -> [36, tiles, F]."""
    return lax.optimization_barrier(lax.dot_general(tiles, kernels, (((2,), (1,)), ((0,), (0,)))))


def _output(products, shape):
    """A^T M A of every tile: [36, tiles, F] -> [N, 4 rows, 4 columns, F]; shape: N, rows and columns of tiles, F."""
    n, rows, columns, features = shape
    products = products.reshape(SPAN, SPAN, n, rows, columns, features)
    by_column = lax.optimization_barrier(
        _combine(A_T, list(products), 4)
    )  # [6, N, rows, columns, 4, F]
    y = _combine(A_T, list(by_column), 2)  # [N, rows, 4, columns, 4, F]
    return y.reshape(n, rows * TILE, columns * TILE, features)


def _overlapping_sum(products, shape):
    """The transpose of `_input_tiles`: [36, tiles, C] -> [N, 4 rows, 4 columns, C]; shape: N, rows and columns, C."""
    n, rows, columns, channels = shape
    products = products.reshape(SPAN, SPAN, n, rows, columns, channels)
    by_column = _merge(list(products), 3).reshape(SPAN, n, rows, columns * TILE, channels)
    return _merge(list(by_column), 1).reshape(n, rows * TILE, columns * TILE, channels)


def _merge(parts, axis: int):
    """B times the six entries of each tile along `axis`: four are the tile's own, the outer ones its neighbours'."""
    own = _combine(B_T.T[1:-1], parts, axis + 1)
    for_next = lax.optimization_barrier(_combine(B_T.T[-1:], parts, axis + 1))
    for_previous = lax.optimization_barrier(_combine(B_T.T[:1], parts, axis + 1))
    move = [(0, 0, 0)] * own.ndim
    move[axis], move[axis + 1] = (1, -1, 0), (0, TILE - 1, 0)
    own += lax.pad(for_next, np.float32(0), move)
    move[axis], move[axis + 1] = (-1, 1, 0), (TILE - 1, 0, 0)
    own += lax.pad(for_previous, np.float32(0), move)
    return lax.optimization_barrier(own)
