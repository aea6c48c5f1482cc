"""A function of images as an ONNX model."""

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import onnx
from jax import export
from onnx import TensorProto, helper, numpy_helper

from imgcls_jax.errors import RunError
from imgcls_jax.evaluation.onnx import jaxprs
from imgcls_jax.evaluation.onnx.convolutions import Convolution
from imgcls_jax.evaluation.onnx.operators import OPERATORS

OPSET = 18  # of 2022: reductions take their axes as an input
IR_VERSION = 8  # that of OPSET's ONNX 1.13
IMAGES = "images"  # the input, uint8 [batch, H, W, C]
LOGITS = "logits"  # the output, float32 [batch, K]

Value = np.ndarray | str  # a constant, or the name of a result in the graph


def convert(
    functions: Mapping[str, Callable],
    shape: Sequence[int],
    metadata: Mapping[str, str],
) -> onnx.ModelProto:
    """Returns functions, each applied to the result of the one before, as an ONNX model.

    The first takes uint8 images [b, *shape], the last returns logits float32 [b, K]. The names of
    a function's nodes begin with its name. metadata: texts that the model has under these names.
    Raises RunError if a function has an operation that OPERATORS does not have.
    """
    dimensions = ["b", *map(str, shape)]
    symbolic = export.symbolic_shape(", ".join(dimensions))
    argument = jax.ShapeDtypeStruct(symbolic, np.uint8)
    graph = Graph()
    value: Value = IMAGES
    for name, function in functions.items():
        graph.scope = name
        value = _add_function(graph, function, argument, value)
        argument = jax.eval_shape(function, argument)
    graph.add("Identity", [value], [LOGITS])
    inputs = _describe(IMAGES, TensorProto.UINT8, shape)
    outputs = _describe(LOGITS, TensorProto.FLOAT, argument.shape[1:])
    graph.remove_unused([LOGITS])
    proto = helper.make_graph(
        graph.nodes,
        "classifier",
        [inputs],
        [outputs],
        graph.initializers,
    )
    model = helper.make_model(
        proto,
        producer_name="imgcls_jax",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model)
    return model


def _describe(
    name: str,
    element_type: int,
    shape: Sequence[int],
) -> onnx.ValueInfoProto:
    """The description of an input or an output with this shape after the batch's axis."""
    return helper.make_tensor_value_info(name, element_type, ["batch", *shape])


def _add_function(
    graph: "Graph",
    function: Callable,
    argument: jax.ShapeDtypeStruct,
    value: Value,
) -> Value:
    """Adds a function of one argument, which has this value; returns the value of its result."""
    closed = jaxprs.inline(jax.make_jaxpr(function)(argument))
    values: dict[Any, Value] = dict(jaxprs.constants(closed))
    values[closed.jaxpr.invars[0]] = value
    for equation in closed.jaxpr.eqns:
        if equation.outvars[0] not in values:
            operands = [jaxprs.read(values, atom) for atom in equation.invars]
            outputs = _write(graph, equation, operands)
            values.update(zip(equation.outvars, outputs, strict=True))
    return jaxprs.read(values, closed.jaxpr.outvars[0])


def _write(
    graph: "Graph",
    equation: Any,
    operands: Sequence[Value],
) -> list[Value]:
    """Adds an operation to the graph; returns its results."""
    name = equation.primitive.name
    if name not in OPERATORS:
        raise RunError(
            f"The model has the operation {name}, which cannot be written as ONNX yet: `imgcls "
            "export RUN` without --format writes the model for JAX."
        )
    outputs = OPERATORS[name](graph, equation, *operands)
    if equation.primitive.multiple_results:
        return outputs
    return [outputs]


class Graph:
    """Nodes and initializers of an ONNX graph that is being built.

    scope: the beginning of the names of the nodes that are added. convolutions: those of the graph,
    by the names of their results.
    """

    def __init__(self):
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.scope = ""
        self.convolutions: dict[str, Convolution] = {}
        self._names: dict[str, str] = {}  # of initializers, by a digest of their content
        self._numbers = itertools.count()
        self._batch_size: str | None = None

    def node(
        self,
        operator: str,
        *inputs: Value,
        **attributes: Any,
    ) -> str:
        """Adds a node with one output; returns the output's name."""
        (name,) = self.nodes_of(operator, *inputs, outputs=1, **attributes)
        return name

    def nodes_of(
        self,
        operator: str,
        *inputs: Value,
        outputs: int,
        **attributes: Any,
    ) -> list[str]:
        """Adds a node with several outputs; returns their names."""
        number = next(self._numbers)
        names = [f"{self.scope}/{operator}_{number}_{i}" for i in range(outputs)]
        self.add(operator, inputs, names, **attributes)
        return names

    def add(
        self,
        operator: str,
        inputs: Sequence[Value],
        outputs: Sequence[str],
        **attributes: Any,
    ) -> None:
        """Adds a node whose outputs have these names."""
        names = [self._name(value) for value in inputs]
        attributes["name"] = outputs[0]
        node = helper.make_node(operator, names, outputs, **attributes)
        self.nodes.append(node)

    def batch_size(self) -> str:
        """Returns the name of the number of images, int64 [1]."""
        if self._batch_size is None:
            self._batch_size = self.node("Shape", IMAGES, start=0, end=1)
        return self._batch_size

    def remove_unused(self, outputs: Sequence[str]) -> None:
        """Removes what none of these results depends on."""
        used = set(outputs)
        nodes = []
        for node in reversed(self.nodes):
            if not used.isdisjoint(node.output):
                used.update(node.input)
                nodes.append(node)
        self.nodes = nodes[::-1]
        self.initializers = [array for array in self.initializers if array.name in used]

    def _name(self, value: Value) -> str:
        """Returns the name of a result, or of the initializer that holds a constant, added once."""
        if isinstance(value, str):
            return value
        array = np.array(value, order="C")
        content = f"{array.dtype} {array.shape} ".encode() + array.tobytes()
        digest = hashlib.sha256(content).hexdigest()
        if digest not in self._names:
            name = f"constant_{len(self._names)}"
            self._names[digest] = name
            self.initializers.append(numpy_helper.from_array(array, name))
        return self._names[digest]
