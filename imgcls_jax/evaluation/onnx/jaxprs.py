"""A function that JAX traced, made plain: no inner functions, no loops, and its constants computed."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.extend import core

# Operations that call a function, with the name of the parameter that holds it.
CALLS = {
    "jit": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}


def inline(closed: core.ClosedJaxpr) -> core.ClosedJaxpr:
    """Returns the same function with inner functions in place and `lax.scan` unrolled."""
    shapes = []
    for aval in closed.in_avals:
        shapes.append(jax.ShapeDtypeStruct(aval.shape, aval.dtype))

    def function(*inputs):
        return _evaluate(closed, inputs)

    return jax.make_jaxpr(function)(*shapes)


def _evaluate(
    closed: core.ClosedJaxpr,
    inputs: Sequence[Any],
) -> list[Any]:
    jaxpr = closed.jaxpr
    values = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    values.update(zip(jaxpr.invars, inputs, strict=True))
    for equation in jaxpr.eqns:
        operands = [read(values, atom) for atom in equation.invars]
        name = equation.primitive.name
        if name in CALLS:
            called = equation.params[CALLS[name]]
            outputs = _evaluate(_closed(called), operands)
        elif name == "scan":
            outputs = _unroll(equation.params, operands)
        else:
            outputs = _bind(equation, operands)
        values.update(zip(equation.outvars, outputs, strict=True))
    return [read(values, atom) for atom in jaxpr.outvars]


def read(
    values: Mapping[core.Var, Any],
    atom: core.Var | core.Literal,
) -> Any:
    """Returns the value of an operand: a literal's own, or that of a variable in `values`."""
    if isinstance(atom, core.Literal):
        return np.asarray(atom.val, atom.aval.dtype)
    return values[atom]


def _closed(jaxpr: core.Jaxpr | core.ClosedJaxpr) -> core.ClosedJaxpr:
    if isinstance(jaxpr, core.ClosedJaxpr):
        return jaxpr
    return core.ClosedJaxpr(jaxpr, ())


def _bind(
    equation: core.JaxprEqn,
    operands: Sequence[Any],
) -> Sequence[Any]:
    outputs = equation.primitive.bind(*operands, **equation.params)
    if equation.primitive.multiple_results:
        return outputs
    return [outputs]


def _unroll(
    params: Mapping[str, Any],
    operands: Sequence[Any],
) -> list[Any]:
    """The steps of `lax.scan` one after the other: operands -> the last carry, stacked results."""
    num_consts, num_carry = _scan_sizes(params)
    consts = operands[:num_consts]
    carry = operands[num_consts : num_consts + num_carry]
    sequences = operands[num_consts + num_carry :]
    steps = list(range(params["length"]))
    if params["reverse"]:
        steps.reverse()
    rows = {}
    for step in steps:
        elements = []
        for sequence in sequences:
            element = lax.index_in_dim(sequence, step, keepdims=False)
            elements.append(element)
        results = _evaluate(_closed(params["jaxpr"]), consts + carry + elements)
        carry = results[:num_carry]
        rows[step] = results[num_carry:]
    in_order = [rows[step] for step in sorted(rows)]
    stacked = []
    for column in zip(*in_order, strict=True):
        expanded = [lax.expand_dims(result, (0,)) for result in column]
        stacked.append(lax.concatenate(expanded, 0))
    return carry + stacked


def _scan_sizes(params: Mapping[str, Any]) -> tuple[int, int]:
    """How many operands of `lax.scan` are constants, and how many the carry, of any JAX."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()  # since JAX 0.12
    return len(consts), len(carry)


def constants(closed: core.ClosedJaxpr) -> dict[core.Var, np.ndarray]:
    """Returns the value of every variable that is the same for all inputs and any batch size.

    closed: as `inline` returns it.
    """
    jaxpr = closed.jaxpr
    values = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    fixed = set(values)
    equations = []
    for equation in jaxpr.eqns:
        if _is_fixed(equation, fixed):
            equations.append(equation)
            fixed.update(equation.outvars)

    def compute(weights: Sequence[Any]) -> list[Any]:
        computed = dict(zip(jaxpr.constvars, weights, strict=True))
        for equation in equations:
            operands = [read(computed, atom) for atom in equation.invars]
            outputs = _bind(equation, operands)
            computed.update(zip(equation.outvars, outputs, strict=True))
        results = []
        for equation in equations:
            results += [computed[variable] for variable in equation.outvars]
        return results

    # All in one program, which takes the weights as inputs: XLA would take long to fold them.
    results = iter(jax.jit(compute)(closed.consts))
    for equation in equations:
        for variable in equation.outvars:
            values[variable] = next(results)
    return {key: np.asarray(value) for key, value in values.items()}


def _is_fixed(
    equation: core.JaxprEqn,
    fixed: set[core.Var],
) -> bool:
    """Whether the results depend on nothing but literals and the variables in `fixed`."""
    for atom in equation.invars:
        if not isinstance(atom, core.Literal) and atom not in fixed:
            return False
    for result in equation.outvars:
        sizes = result.aval.shape
        if not all(isinstance(size, int) for size in sizes):
            return False
    return True
