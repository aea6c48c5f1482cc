"""Made keras_legacy.h5 beside it, with Keras 3.15: KERAS_BACKEND=torch python make_keras_files.py.

What is in them stands again in ../test_keras_format.py.
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
        layer.set_weights(
            [np.arange(weight.size).reshape(weight.shape) for weight in layer.get_weights()]
        )
    return built


if __name__ == "__main__":
    with h5py.File(FOLDER / "keras_legacy.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model())
