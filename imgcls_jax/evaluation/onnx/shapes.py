"""JAX's operations on shapes, as nodes of ONNX. `operators` says what the functions get."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from imgcls_jax.errors import RunError

if TYPE_CHECKING:
    from imgcls_jax.evaluation.onnx.graph import Graph, Value

FIRST = np.iinfo(np.int64).min  # the end of a slice that goes back to the first element


def reshape(
    graph: "Graph",
    x: "Value",
    shape: Sequence[Any],
) -> "Value":
    """Reshapes x, which may be constant, to sizes of which one may depend on the batch."""
    sizes = []
    for size in shape:
        if not isinstance(size, int):
            size = -1
        sizes.append(size)
    if sizes.count(-1) > 1:
        raise RunError(f"ONNX cannot reshape to {shape}: two of the sizes depend on the batch.")
    if isinstance(x, np.ndarray):
        return x.reshape(sizes)
    return graph.node("Reshape", x, np.array(sizes))


def transpose(
    graph: "Graph",
    x: "Value",
    permutation: Sequence[int],
) -> "Value":
    """Transposes x, which may be constant."""
    if list(permutation) == sorted(permutation):
        return x
    if isinstance(x, np.ndarray):
        return x.transpose(permutation)
    return graph.node("Transpose", x, perm=list(permutation))


def reshaped(graph, equation, x):
    return reshape(graph, x, equation.outvars[0].aval.shape)


def transposed(graph, equation, x):
    return transpose(graph, x, equation.params["permutation"])


def broadcast(graph, equation, x):
    """Inserts axes of size 1, and repeats what has size 1 where the result is larger."""
    before = equation.invars[0].aval.shape
    after = equation.outvars[0].aval.shape
    inserted = [1] * len(after)
    axes = equation.params["broadcast_dimensions"]
    for size, axis in zip(before, axes, strict=True):
        inserted[axis] = size
    if tuple(inserted) != tuple(before):
        x = reshape(graph, x, inserted)
    if tuple(inserted) == tuple(after):
        return x
    sizes = []
    for size, old in zip(after, inserted, strict=True):
        if isinstance(size, int):
            sizes.append(np.array([size]))
        elif size == old:
            sizes.append(np.array([1]))  # it stays as it is
        else:
            sizes.append(graph.batch_size())
    if all(isinstance(size, np.ndarray) for size in sizes):
        return graph.node("Expand", x, np.concatenate(sizes))
    shape = graph.node("Concat", *sizes, axis=0)
    return graph.node("Expand", x, shape)


def concatenate(graph, equation, *operands):
    axis = equation.params["dimension"]
    return graph.node("Concat", *operands, axis=axis)


def stack(graph, equation, *operands):
    axis = equation.params["axis"]
    expanded = []
    for x in operands:
        expanded.append(graph.node("Unsqueeze", x, np.array([axis])))
    return graph.node("Concat", *expanded, axis=axis)


def split(graph, equation, x):
    sizes = np.array(equation.params["sizes"])
    axis = equation.params["axis"]
    return graph.nodes_of("Split", x, sizes, outputs=len(sizes), axis=axis)


def slice(graph, equation, x):
    params = equation.params
    starts = params["start_indices"]
    ends = params["limit_indices"]
    strides = params["strides"] or [1] * len(starts)
    shape = equation.invars[0].aval.shape
    return _slice_axes(graph, x, shape, starts, ends, strides)


def _slice_axes(graph, x, shape, starts, ends, strides):
    """Slices the axes that become shorter; those that depend on the batch may not."""
    rows = []
    bounds = zip(starts, ends, strides, strict=True)
    for axis, (start, end, stride) in enumerate(bounds):
        if (start, end, stride) != (0, shape[axis], 1):
            rows.append((axis, start, end, stride))
    if not rows:
        return x
    axes, starts, ends, strides = np.array(rows).T
    return graph.node("Slice", x, starts, ends, axes, strides)


def reverse(graph, equation, x):
    axes = np.array(equation.params["dimensions"])
    last = np.full(len(axes), -1)
    before_first = np.full(len(axes), FIRST)
    return graph.node("Slice", x, last, before_first, axes, last)


def gather(graph, equation, x, indices):
    """A slice that JAX writes as a gather, or elements of one axis, at constant positions."""
    numbers = equation.params["dimension_numbers"]
    shape = equation.invars[0].aval.shape
    sizes = equation.params["slice_sizes"]
    result = equation.outvars[0].aval.shape
    is_constant = isinstance(indices, np.ndarray) and not numbers.operand_batching_dims
    if is_constant and indices.ndim == 1:
        starts = [0] * len(shape)
        for axis, start in zip(numbers.start_index_map, indices, strict=True):
            starts[axis] = int(start)
        window = _window(graph, x, shape, starts, sizes)
        return reshape(graph, window, result)
    if is_constant and indices.shape[1:] == (1,):
        (axis,) = numbers.start_index_map
        takes_elements = numbers.collapsed_slice_dims == (axis,)
        if takes_elements and axis not in numbers.offset_dims:
            positions = indices[:, 0]
            return graph.node("Gather", x, positions, axis=axis)
    raise RunError("ONNX: this gather is no slice and takes no elements of one axis.")


def _window(graph, x, shape, starts, sizes):
    """Returns the part of x of these sizes, from `starts` or, as in JAX, so that it is inside."""
    first = []
    ends = []
    for start, size, length in zip(starts, sizes, shape, strict=True):
        last = length - size
        if last != 0:  # otherwise it is whole, and may depend on the batch
            start = min(max(start, 0), last)
        first.append(start)
        ends.append(start + size)
    strides = [1] * len(shape)
    return _slice_axes(graph, x, shape, first, ends, strides)
