"""The order of axes of arrays in files of weights, and in Flax."""

import enum

import numpy as np


class Layout(enum.StrEnum):
    """The order of axes of an array in a file."""

    SAME = "same"  # as in Flax
    CONV = "conv"  # torch: OIHW; Flax: HWIO. Depthwise convolutions too
    DENSE = "dense"  # torch: [out, in]; Flax: [in, out]
    DEPTHWISE = "depthwise"  # Keras: [h, w, C, 1]; Flax: [h, w, 1, C]
    CHANNELS = "channels"  # torch: [C, 1, 1]; Flax: [C]


def to_flax(array: np.ndarray, layout: str) -> np.ndarray:
    """Returns a view of a file's array with Flax' axes. Raises ValueError for another rank."""
    match Layout(layout):
        case Layout.SAME:
            return array
        case Layout.CONV:
            return array.transpose(2, 3, 1, 0)
        case Layout.DENSE:
            return array.transpose(1, 0)
        case Layout.DEPTHWISE:
            return array.transpose(0, 1, 3, 2)
        case Layout.CHANNELS:
            return array.transpose(1, 2, 0).squeeze((0, 1))


def from_flax(array: np.ndarray, layout: str) -> np.ndarray:
    """Returns a view of Flax' array with the axes of a file: the inverse of `to_flax`."""
    match Layout(layout):
        case Layout.SAME:
            return array
        case Layout.CONV:
            return array.transpose(3, 2, 0, 1)
        case Layout.DENSE:
            return array.transpose(1, 0)
        case Layout.DEPTHWISE:
            return array.transpose(0, 1, 3, 2)
        case Layout.CHANNELS:
            return array[:, None, None]
