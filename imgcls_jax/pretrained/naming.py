"""What a key map is, and the naming rules that torch's and Keras' files share.

A key map translates the path of a variable in the Flax model, such as
"params/layer1_0/conv1/kernel", to the name and the layout that it has in files of weights.
"""

import dataclasses
import re
from collections.abc import Callable, Container, Mapping

from imgcls_jax.pretrained.layouts import Layout

NameOf = Callable[[str], tuple[str, str]]  # path of a variable -> name and layout in the file

# Counters of torch's BatchNorm, which no model here has.
TORCH_COUNTERS = r".*\.num_batches_tracked"

TORCH_LEAVES = {
    "params/kernel": "weight",
    "params/scale": "weight",
    "params/bias": "bias",
    "batch_stats/mean": "running_mean",
    "batch_stats/var": "running_var",
}
KERAS_LEAVES = {
    "params/kernel": "kernel",
    "params/scale": "gamma",
    "params/bias": "bias",
    "batch_stats/mean": "moving_mean",
    "batch_stats/var": "moving_variance",
}


# keras-applications, which wrote Keras' files, calls the classifier "probs". Keras reads it by order.
KERAS_ALIASES = {"probs/probs/": "predictions/predictions/"}


@dataclasses.dataclass(frozen=True)
class KeyMap:
    """The names that a model's variables have in files of weights."""

    name_of: NameOf
    classifier: str  # regex of the variables whose shapes depend on the number of classes
    family: str  # "torch" or "keras": which library's files these are
    ignored: tuple[str, ...] = ()  # regexes of names in files that no variable has
    # Start of a name in a file -> start of the same name here.
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
    # All layers of the Keras model without its top, in Keras' order, if they can be counted.
    layers: tuple[str, ...] = ()


def split(path: str) -> tuple[str, str, str]:
    """Returns the collection, the module's path and the leaf of "params/layer1_0/conv1/kernel"."""
    collection, rest = path.split("/", 1)
    module, leaf = rest.rsplit("/", 1)
    return collection, module, leaf


def torch_name(path: str, *, dense: Container[str]) -> tuple[str, Layout]:
    """Returns torch's name and layout of a variable of a model whose modules have torch's names.

    "_0" in them stands for ".0".

    `dense` has the last parts of the paths of dense layers.
    """
    collection, module, leaf = split(path)
    layer = re.sub(r"/|_(?=\d)", ".", module)
    is_dense = module.split("/")[-1] in dense
    return torch_leaf(collection, layer, leaf, dense=is_dense)


def torch_leaf(collection: str, layer: str, leaf: str, *, dense: bool) -> tuple[str, Layout]:
    """Returns torch's name and layout of a variable of the layer with this name in torch."""
    name = f"{layer}.{TORCH_LEAVES[f'{collection}/{leaf}']}"
    if leaf != "kernel":
        return name, Layout.SAME
    if dense:
        return name, Layout.DENSE
    return name, Layout.CONV


def keras_name(path: str, *, layer: str, norm: bool, depthwise: bool = False) -> tuple[str, Layout]:
    """Returns Keras' name and layout of a variable of the layer with this name in Keras.

    norm: the layer is a BatchNorm. depthwise: it is a depthwise convolution.
    """
    collection, _, leaf = split(path)
    weight = KERAS_LEAVES[f"{collection}/{leaf}"]
    if norm and leaf == "bias":
        weight = "beta"
    layout = Layout.SAME
    if depthwise and leaf == "kernel":
        layout = Layout.DEPTHWISE
    return f"{layer}/{layer}/{weight}", layout
