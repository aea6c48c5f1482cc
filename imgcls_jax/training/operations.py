"""Counts the multiply-adds of convolutions and matrix products in a traced function."""

import math

from jax.extend.core import Jaxpr, JaxprEqn, jaxprs_in_params


def multiply_adds(jaxpr: Jaxpr, *, repeats_loops: bool = True) -> int:
    """Returns the multiply-adds of a function.

    repeats_loops: counts the body of a loop as often as it runs, otherwise once, as XLA does. A
    loop whose length is not known before it runs counts once.
    """
    total = 0
    for equation in jaxpr.eqns:
        total += _of_equation(equation, repeats_loops)
    return total


def _of_equation(equation: JaxprEqn, repeats_loops: bool) -> int:
    name = equation.primitive.name
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        features_axis = equation.params["dimension_numbers"].rhs_spec[0]
        taps = math.prod(kernel) // kernel[features_axis]
        return equation.outvars[0].aval.size * taps
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        terms = math.prod(left[axis] for axis in contracted)
        return equation.outvars[0].aval.size * terms
    inner = 0
    for jaxpr in jaxprs_in_params(equation.params):
        inner += multiply_adds(jaxpr, repeats_loops=repeats_loops)
    if name == "scan" and repeats_loops:
        return inner * equation.params["length"]
    return inner
