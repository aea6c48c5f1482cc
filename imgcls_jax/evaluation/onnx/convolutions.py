"""Convolutions and pools, as nodes of ONNX. `operators` says what the functions get.

ONNX has channels before rows and columns, so each is between two transpositions, most of which the
runtime removes.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from imgcls_jax.errors import RunError
from imgcls_jax.evaluation.onnx.shapes import transpose

if TYPE_CHECKING:
    from imgcls_jax.evaluation.onnx.graph import Graph, Value


@dataclasses.dataclass(frozen=True)
class Convolution:
    """A convolution in a graph, which what follows may become part of.

    kernel: [F, C, h, w]. bias: [F] or None. back: the transposition of its result.
    """

    x: "Value"
    kernel: "Value"
    bias: np.ndarray | None
    attributes: Mapping[str, Any]
    back: Sequence[int]


def convolution(graph, equation, x, kernel):
    params = equation.params
    is_transposed = set(params["lhs_dilation"]) != {1}
    if is_transposed or params["batch_group_count"] != 1:
        raise RunError("ONNX: transposed convolutions and groups of the batch are not written.")
    numbers = params["dimension_numbers"]
    low, high = zip(*params["padding"], strict=True)
    x = transpose(graph, x, numbers.lhs_spec)
    kernel = transpose(graph, kernel, numbers.rhs_spec)
    attributes = {
        "strides": params["window_strides"],
        "dilations": params["rhs_dilation"],
        "pads": low + high,
        "group": params["feature_group_count"],
    }
    back = np.argsort(numbers.out_spec)
    node = Convolution(x, kernel, None, attributes, back.tolist())
    return _add_convolution(graph, node)


def _add_convolution(graph: "Graph", node: Convolution) -> str:
    inputs = [node.x, node.kernel]
    if node.bias is not None:
        inputs.append(node.bias)
    y = graph.node("Conv", *inputs, **node.attributes)
    result = transpose(graph, y, node.back)
    graph.convolutions[result] = node
    return result


def scaled(graph: "Graph", result: "Value", factor: np.ndarray) -> str | None:
    """Returns a convolution's result times a factor for each channel; None for anything else.

    It is another convolution. The one before is removed with all that has no use.
    """
    node = _foldable(graph, result, factor)
    if node is None:
        return None
    factor = factor.reshape(-1, 1, 1, 1)
    bias = node.bias
    if bias is not None:
        bias = bias * factor.reshape(-1)
    folded = dataclasses.replace(node, kernel=node.kernel * factor, bias=bias)
    return _add_convolution(graph, folded)


def shifted(graph: "Graph", result: "Value", offset: np.ndarray) -> str | None:
    """Returns a convolution's result plus an offset for each channel; None for anything else."""
    node = _foldable(graph, result, offset)
    if node is None:
        return None
    bias = offset.reshape(-1)
    if node.bias is not None:
        bias = node.bias + bias
    return _add_convolution(graph, dataclasses.replace(node, bias=bias))


def _foldable(
    graph: "Graph",
    result: "Value",
    constant: np.ndarray,
) -> Convolution | None:
    """The convolution with this result, if the constant has a number for each of its channels."""
    node = graph.convolutions.get(result)
    if node is None or not isinstance(node.kernel, np.ndarray):
        return None
    channels = len(node.kernel)
    if constant.shape[-1:] != (channels,) or constant.size != channels:
        return None
    return node


def max_pool(graph, equation, x):
    """A max pool of [N, H, W, C]."""
    params = equation.params
    window = params["window_dimensions"]
    padding = params["padding"]
    dilations = {*params["base_dilation"], *params["window_dilation"]}
    is_map = len(window) == 4 and window[0] == window[3] == 1
    if not is_map or dilations != {1}:
        raise RunError("ONNX: only max pools over rows and columns are written.")
    low, high = zip(*padding[1:3], strict=True)
    x = transpose(graph, x, (0, 3, 1, 2))
    y = graph.node(
        "MaxPool",
        x,
        kernel_shape=window[1:3],
        strides=params["window_strides"][1:3],
        pads=low + high,
    )
    return transpose(graph, y, (0, 2, 3, 1))
