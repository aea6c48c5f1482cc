"""3x3 convolutions with stride 1 by Winograd's F(4x4, 3x3), for CPUs.

Source: Lavin and Gray, 2015, arXiv:1509.09308.

A tile of 4x4 outputs takes 36 products for each pair of channels instead of 144. In the paper's
notation, for the kernel g and a tile d of 6x6 inputs (tiles overlap by two):

    U = G g G^T        transformed kernel    [36, C, F]
    V = B^T d B        transformed inputs    [36, tiles, C]
    M = V U            36 matrix products    [36, tiles, F]
    y = A^T M A        outputs of the tile

The gradients are the transposes of these maps. Both use the gradient dy of a tile's outputs as
D = A dy A^T [36, tiles, F]: the gradient of d is B (D U^T) B^T, summed where tiles overlap, and
that of g is G^T (V^T D) G.

The points of the interpolating polynomials are 0, +-sqrt(1/2), +-sqrt(2) and infinity. They cost
what the usual 0, +-1, +-2 cost, and their rounding errors are half as large:
`python -m benchmarks.layers` states them.

The barriers keep XLA from fusing a transform into all of its users, which would compute it several
times.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

TILE = 4  # outputs of a tile, along each side
KERNEL = 3
SPAN = TILE + KERNEL - 1  # inputs of a tile, along each side
POSITIONS = SPAN * SPAN
POINTS = (0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5))


def _toom_cook() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns A^T [4, 6], G [6, 3] and B^T [6, 6], float32, for POINTS and infinity."""
    a_t = np.zeros((TILE, SPAN))
    g = np.zeros((SPAN, KERNEL))
    for column, point in enumerate(POINTS):
        differences = [point - other for other in POINTS if other != point]
        scale = np.prod(differences)
        a_t[:, column] = [point**i for i in range(TILE)]
        g[column] = [point**i / scale for i in range(KERNEL)]
    a_t[TILE - 1, -1] = 1  # infinity
    g[-1, KERNEL - 1] = 1

    # B^T follows from them: sum_m A^T[i, m] G[m, j] B^T[m, k] is 1 where k = i + j, and otherwise
    # 0.
    products = np.einsum("im,mj->ijm", a_t, g).reshape(-1, SPAN)
    targets = np.zeros((TILE, KERNEL, SPAN))
    for i in range(TILE):
        for j in range(KERNEL):
            targets[i, j, i + j] = 1
    targets = targets.reshape(-1, SPAN)
    b_t, *_ = np.linalg.lstsq(products, targets, rcond=None)
    b_t[np.abs(b_t) < 1e-12] = 0
    return np.float32(a_t), np.float32(g), np.float32(b_t)


A_T, G, B_T = _toom_cook()


@jax.custom_vjp
def convolve(x, w):
    """Convolves float32 x [N, H, W, C] by w [3, 3, C, F] -> [N, H, W, F].

    The stride is 1, and zeros pad the image by one on each side.
    """
    return _forward(x, w)[0]


def _forward(x, w):
    batch_size, height, width, _ = x.shape
    features = w.shape[-1]
    kernels = lax.optimization_barrier(_transformed_kernel(w))
    products = _matrix_products(_input_tiles(x), kernels)
    shape = (batch_size, _tiles(height), _tiles(width), features)
    y = _outputs(products, shape)
    return y[:, :height, :width], (x, w)


def _backward(residuals, g):
    x, w = residuals
    # Without the barrier XLA repeats the operations that made x and g in every transform.
    x, g = lax.optimization_barrier((x, g))
    batch_size, height, width, channels = x.shape
    gradients = _gradient_tiles(g)
    kernels = _transformed_kernel(w).transpose(0, 2, 1)
    kernels = lax.optimization_barrier(kernels)
    products = _matrix_products(gradients, kernels)
    shape = (batch_size, _tiles(height), _tiles(width), channels)
    dx = _overlapping_sum(products, shape)
    # V^T D: a product over all tiles for each of the 36 positions.
    contract_tiles = (((1,), (1,)), ((0,), (0,)))
    dw = lax.dot_general(_input_tiles(x), gradients, contract_tiles)
    dw = dw.reshape(SPAN, SPAN, *w.shape[2:])
    return dx[:, :height, :width], _on_both_sides(G.T, dw)


convolve.defvjp(_forward, _backward)


def covered(size: int) -> int:
    """Returns how many rows, or columns, the tiles over `size` outputs have together."""
    return _tiles(size) * TILE


def _tiles(size: int) -> int:
    return -(-size // TILE)


def _combine(matrix: np.ndarray, parts, axis: int):
    """The sums over k of matrix[:, k] * parts[k]; the matrix' rows are a new axis of the result.

    One operation for all rows, so that XLA compiles one loop instead of one for each row.
    """
    total = None
    for column, part in zip(matrix.T, parts, strict=True):
        shape = [1] * (part.ndim + 1)
        shape[axis] = len(column)
        term = column.reshape(shape) * jnp.expand_dims(part, axis)
        total = term if total is None else total + term
    return total


def _transformed_kernel(w):
    """U: [3, 3, C, F] -> [36, C, F], numbered by a position's column first and then its row."""
    return _on_both_sides(G, w).reshape(POSITIONS, *w.shape[2:])


def _on_both_sides(matrix: np.ndarray, x):
    """matrix x^T matrix^T over the first two axes of x [m, m, C, F]."""
    x = jnp.tensordot(matrix, x, 1, precision="highest")
    return jnp.tensordot(matrix, x, ((1,), (1,)), precision="highest")


def _input_tiles(x):
    """V: [N, H, W, C] -> [36, tiles, C]."""
    batch_size, height, width, channels = x.shape
    rows = _tiles(height)
    columns = _tiles(width)
    below = rows * TILE + 1 - height
    right = columns * TILE + 1 - width
    x = jnp.pad(x, ((0, 0), (1, below), (1, right), (0, 0)))

    last_row = TILE * (rows - 1) + 1
    row_slices = [x[:, i : i + last_row : TILE] for i in range(SPAN)]
    x = lax.optimization_barrier(_combine(B_T, row_slices, 0))

    last_column = TILE * (columns - 1) + 1
    column_slices = [x[:, :, :, j : j + last_column : TILE] for j in range(SPAN)]
    x = _combine(B_T, column_slices, 0)
    x = x.reshape(POSITIONS, batch_size * rows * columns, channels)
    return lax.optimization_barrier(x)


def _gradient_tiles(g):
    """D: the gradient of the outputs [N, H, W, F] -> [36, tiles, F]."""
    batch_size, height, width, features = g.shape
    rows = _tiles(height)
    columns = _tiles(width)
    below = rows * TILE - height
    right = columns * TILE - width
    g = jnp.pad(g, ((0, 0), (0, below), (0, right), (0, 0)))

    g = g.reshape(batch_size, rows, TILE, columns * TILE, features)
    row_slices = [g[:, :, i] for i in range(TILE)]
    g = lax.optimization_barrier(_combine(A_T.T, row_slices, 0))

    g = g.reshape(SPAN, batch_size, rows, columns, TILE, features)
    column_slices = [g[:, :, :, :, j] for j in range(TILE)]
    g = _combine(A_T.T, column_slices, 0)
    g = g.reshape(POSITIONS, batch_size * rows * columns, features)
    return lax.optimization_barrier(g)


def _matrix_products(tiles, kernels):
    """M: [36, tiles, C] and [36, C, F] -> [36, tiles, F]."""
    contract_channels = (((2,), (1,)), ((0,), (0,)))
    products = lax.dot_general(tiles, kernels, contract_channels)
    return lax.optimization_barrier(products)


def _outputs(products, shape):
    """A^T M A: [36, tiles, F] -> [N, 4 rows, 4 columns, F]; shape: N, rows, columns, F."""
    batch_size, rows, columns, features = shape
    products = products.reshape(SPAN, SPAN, *shape)
    # [6, N, rows, columns, 4, F]
    by_column = lax.optimization_barrier(_combine(A_T, list(products), 4))
    # [N, rows, 4, columns, 4, F]
    y = _combine(A_T, list(by_column), 2)
    return y.reshape(batch_size, rows * TILE, columns * TILE, features)


def _overlapping_sum(products, shape):
    """The transpose of `_input_tiles`: [36, tiles, C] -> [N, 4 rows, 4 columns, C].

    shape: N, rows and columns of tiles, C.
    """
    batch_size, rows, columns, channels = shape
    products = products.reshape(SPAN, SPAN, *shape)
    by_column = _merged_tiles(list(products), 3)
    by_column = by_column.reshape(SPAN, batch_size, rows, columns * TILE, channels)
    merged = _merged_tiles(list(by_column), 1)
    return merged.reshape(batch_size, rows * TILE, columns * TILE, channels)


def _merged_tiles(parts, axis: int):
    """B times the six inputs of each tile along `axis`, summed where tiles overlap.

    Of the six inputs the inner four belong to the tile; the first is the previous tile's last, and
    the last is the next tile's first.
    """
    b = B_T.T
    inner = _combine(b[1:-1], parts, axis + 1)
    last = _combine(b[-1:], parts, axis + 1)
    last = lax.optimization_barrier(last)
    first = _combine(b[:1], parts, axis + 1)
    first = lax.optimization_barrier(first)

    to_next = [(0, 0, 0)] * inner.ndim  # (low, high, interior) padding; -1 drops an element
    to_next[axis] = (1, -1, 0)
    to_next[axis + 1] = (0, TILE - 1, 0)
    inner += lax.pad(last, np.float32(0), to_next)

    to_previous = [(0, 0, 0)] * inner.ndim
    to_previous[axis] = (-1, 1, 0)
    to_previous[axis + 1] = (TILE - 1, 0, 0)
    inner += lax.pad(first, np.float32(0), to_previous)
    return lax.optimization_barrier(inner)
