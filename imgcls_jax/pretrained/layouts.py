"""How arrays lie in weights files, and how they lie here."""

import enum
import re
from collections.abc import Container

import numpy as np


class Layout(enum.StrEnum):
    """The layout of an array in a file."""

    SAME = "same"  # as in Flax
    CONV = "conv"  # torch: OIHW; Flax: HWIO. Depthwise convolutions too
    DENSE = "dense"  # torch: [out, in]; Flax: [in, out]
    DEPTHWISE = "depthwise"  # Keras: [h, w, C, 1]; Flax: [h, w, 1, C]
    CHANNELS = "channels"  # torch: [C, 1, 1]; Flax: [C]


def to_flax(array: np.ndarray, layout: str) -> np.ndarray:
    """An array of a file in the order of axes that Flax has. A view; ValueError where the rank does not fit."""
    match Layout(layout):
        case Layout.CONV:
            return array.transpose(2, 3, 1, 0)
        case Layout.DENSE:
            return array.transpose(1, 0)
        case Layout.DEPTHWISE:
            return array.transpose(0, 1, 3, 2)
        case Layout.CHANNELS:
            return array.transpose(1, 2, 0).squeeze((0, 1))
        case Layout.SAME:
            return array


def from_flax(array: np.ndarray, layout: str) -> np.ndarray:
    """The inverse of `to_flax`."""
    match Layout(layout):
        case Layout.CONV:
            return array.transpose(3, 2, 0, 1)
        case Layout.DENSE:
            return array.transpose(1, 0)
        case Layout.DEPTHWISE:
            return array.transpose(0, 1, 3, 2)
        case Layout.CHANNELS:
            return array[:, None, None]
        case Layout.SAME:
            return array


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


def split(path: str) -> tuple[str, str, str]:
    """ "params/layer1_0/conv1/kernel" -> the collection, the module's path and the leaf."""
    collection, module = path.split("/", 1)
    module, leaf = module.rsplit("/", 1)
    return collection, module, leaf


def torch_name(path: str, *, dense: Container[str]) -> tuple[str, Layout]:
    """torch's name and layout of a variable whose modules are named as torch's, "_0" standing for ".0".

    `dense` are the last parts of the paths of dense layers.
    """
    collection, module, leaf = split(path)
    layer = re.sub(r"/|_(?=\d)", ".", module)
    return torch_leaf(collection, layer, leaf, dense=module.split("/")[-1] in dense)


def torch_leaf(collection: str, layer: str, leaf: str, *, dense: bool) -> tuple[str, Layout]:
    """torch's name and layout of a variable of the layer of this name; `dense`: it is a dense layer."""
    layout = Layout.SAME
    if leaf == "kernel":
        layout = Layout.DENSE if dense else Layout.CONV
    return f"{layer}.{TORCH_LEAVES[f'{collection}/{leaf}']}", layout


def keras_name(path: str, *, layer: str, norm: bool, depthwise: bool = False) -> tuple[str, Layout]:
    """Keras' name and layout of a variable of the layer of this name; `norm`: it is a BatchNorm."""
    collection, _, leaf = split(path)
    name = "beta" if norm and leaf == "bias" else KERAS_LEAVES[f"{collection}/{leaf}"]
    return (
        f"{layer}/{layer}/{name}",
        Layout.DEPTHWISE if depthwise and leaf == "kernel" else Layout.SAME,
    )
