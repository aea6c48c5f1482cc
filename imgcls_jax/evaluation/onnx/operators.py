"""JAX's operations as nodes of ONNX, for those that inference of our models uses.

A function gets the graph, JAX's equation and its operands, of which at least one is the name of a
result in the graph, and returns the name of its own result.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import helper

from imgcls_jax.errors import RunError
from imgcls_jax.evaluation.onnx import convolutions, shapes
from imgcls_jax.evaluation.onnx.shapes import reshape, transpose

Operator = Callable[..., Any]


def _direct(name: str) -> Operator:
    """An operation that ONNX has as well, which broadcasts its operands."""

    def operator(graph, equation, *operands):
        return graph.node(name, *operands)

    return operator


def _composed(*names: str) -> Operator:
    """Several operations of one operand, the first of `names` first."""

    def operator(graph, equation, x):
        for name in names:
            x = graph.node(name, x)
        return x

    return operator


def _identity(graph, equation, x):
    return x


# ---------------------------------------------------------------------------------------------
# Elementwise


def _add(graph, equation, x, y):
    constant, operand = _constant_first(x, y)
    if constant is not None:
        result = convolutions.shifted(graph, operand, constant)
        if result is not None:
            return result
    if constant is not None and constant.shape[:-1] == (1,):
        return graph.node("Add", operand, constant[0])  # the form of a bias that int8 requires
    return graph.node("Add", x, y)


def _mul(graph, equation, x, y):
    constant, operand = _constant_first(x, y)
    if constant is not None:
        result = convolutions.scaled(graph, operand, constant)
        if result is not None:
            return result
    return graph.node("Mul", x, y)


def _max(graph, equation, x, y):
    constant, operand = _constant_first(x, y)
    if constant is not None and not np.any(constant):
        return graph.node("Relu", operand)
    return graph.node("Max", x, y)


def _min(graph, equation, x, y):
    constant, operand = _constant_first(x, y)
    if constant is not None and constant.ndim == 0:
        return graph.node("Clip", operand, "", constant)
    return graph.node("Min", x, y)


def _constant_first(x, y):
    """Returns the constant operand and the other one; None, None if neither is constant."""
    if isinstance(x, np.ndarray):
        return x, y
    if isinstance(y, np.ndarray):
        return y, x
    return None, None


def _square(graph, equation, x):
    return graph.node("Mul", x, x)


def _integer_pow(graph, equation, x):
    exponent = np.array(equation.params["y"], np.float32)
    return graph.node("Pow", x, exponent)


def _erfc(graph, equation, x):
    one = np.array(1, np.float32)
    return graph.node("Sub", one, graph.node("Erf", x))


def _select(graph, equation, which, *cases):
    is_condition = equation.invars[0].aval.dtype == bool
    if not is_condition or len(cases) != 2:
        raise RunError("ONNX' Where chooses between two cases by a condition, not by a number.")
    if_false, if_true = cases
    return graph.node("Where", which, if_true, if_false)


def _not_equal(graph, equation, x, y):
    return graph.node("Not", graph.node("Equal", x, y))


def _convert(graph, equation, x):
    dtype = np.dtype(equation.params["new_dtype"])
    if equation.invars[0].aval.dtype == dtype:
        return x
    return graph.node("Cast", x, to=helper.np_dtype_to_tensor_dtype(dtype))


# ---------------------------------------------------------------------------------------------
# Reductions and products


def _reduce(name: str) -> Operator:
    def operator(graph, equation, x):
        axes = np.array(equation.params["axes"])
        return graph.node(name, x, axes, keepdims=0)

    return operator


def _dot_general(graph, equation, x, y):
    """Any product, as a matrix product of [batch, free, contracted] and [batch, contracted, free]."""
    (x_contracted, y_contracted), (x_batch, y_batch) = equation.params["dimension_numbers"]
    x_shape = equation.invars[0].aval.shape
    y_shape = equation.invars[1].aval.shape
    x_free = _others(len(x_shape), x_contracted, x_batch)
    y_free = _others(len(y_shape), y_contracted, y_batch)
    x = transpose(graph, x, [*x_batch, *x_free, *x_contracted])
    y = transpose(graph, y, [*y_batch, *y_contracted, *y_free])
    if len(x_contracted) == len(y_free) == 1:
        # MatMul takes any number of leading axes, which are the batch's in both or in x alone.
        if len(x_free) == 1 or (x_free and not x_batch):
            return graph.node("MatMul", x, y)
    batch = [x_shape[axis] for axis in x_batch]
    depth = math.prod(x_shape[axis] for axis in x_contracted)
    rows = math.prod(x_shape[axis] for axis in x_free)
    columns = math.prod(y_shape[axis] for axis in y_free)
    x = reshape(graph, x, [*batch, rows, depth])
    y = reshape(graph, y, [*batch, depth, columns])
    product = graph.node("MatMul", x, y)
    return reshape(graph, product, equation.outvars[0].aval.shape)


def _others(rank: int, *taken: Sequence[int]) -> list[int]:
    used = set().union(*taken)
    return [axis for axis in range(rank) if axis not in used]


OPERATORS: Mapping[str, Operator] = {
    "abs": _direct("Abs"),
    "add": _add,
    "and": _direct("And"),
    "broadcast_in_dim": shapes.broadcast,
    "concatenate": shapes.concatenate,
    "conv_general_dilated": convolutions.convolution,
    "convert_element_type": _convert,
    "copy": _identity,
    "copy_p": _identity,
    "div": _direct("Div"),
    "dot_general": _dot_general,
    "erf": _direct("Erf"),
    "erfc": _erfc,
    "exp": _direct("Exp"),
    "gather": shapes.gather,
    "ge": _direct("GreaterOrEqual"),
    "gt": _direct("Greater"),
    "integer_pow": _integer_pow,
    "le": _direct("LessOrEqual"),
    "logistic": _direct("Sigmoid"),
    "max": _max,
    "min": _min,
    "mul": _mul,
    "ne": _not_equal,
    "neg": _direct("Neg"),
    "reduce_max": _reduce("ReduceMax"),
    "reduce_sum": _reduce("ReduceSum"),
    "reduce_window_max": convolutions.max_pool,
    "reshape": shapes.reshaped,
    "rev": shapes.reverse,
    "rsqrt": _composed("Sqrt", "Reciprocal"),
    "select_n": _select,
    "slice": shapes.slice,
    "split": shapes.split,
    "sqrt": _direct("Sqrt"),
    "square": _square,
    "squeeze": shapes.reshaped,
    "stack": shapes.stack,
    "stop_gradient": _identity,
    "sub": _direct("Sub"),
    "tanh": _direct("Tanh"),
    "transpose": shapes.transposed,
}
