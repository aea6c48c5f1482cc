"""Wrote keras_legacy.h5, with Keras 3.15: KERAS_BACKEND=torch python make_keras_files.py.

../test_weights_formats.py has its content again.
"""

from pathlib import Path

import h5py
import keras
import numpy as np
from keras.src.legacy.saving import legacy_h5_format

FOLDER = Path(__file__).parent


def model() -> keras.Model:
    """Every weight of a layer holds 0, 1, 2, ... in its own order."""
    inputs = keras.Input((4, 4, 3))
    x = keras.layers.Conv2D(2, 1, name="stem_conv")(inputs)
    x = keras.layers.BatchNormalization(name="stem_bn")(x)
    x = keras.layers.DepthwiseConv2D(3, use_bias=False, name="block1_dwconv2")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    built = keras.Model(inputs, keras.layers.Dense(2, name="predictions")(x))
    for layer in built.layers:
        weights = []
        for weight in layer.get_weights():
            weights.append(np.arange(weight.size).reshape(weight.shape))
        layer.set_weights(weights)
    return built


if __name__ == "__main__":
    with h5py.File(FOLDER / "keras_legacy.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model())
