"""Report E's networks as Keras builds them by default, on the same weights: logits, and what training updates."""

import generated
import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from reference import keras

from configs import cifar_resnet20, cifar_vgg10_base
from imgcls_jax import models, trees

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)  # Keras on torch
layers = keras.layers
IMAGES = np.random.default_rng(0).random((8, 32, 32, 3)).astype(np.float32)


def resnet20():
    """The report's block; its layers by the names of ours."""
    named = {}

    def conv_norm(x, width, kernel, stride, conv, norm):
        named[conv] = layers.Conv2D(width, kernel, strides=stride, padding="same")
        named[norm] = layers.BatchNormalization()
        return named[norm](named[conv](x))

    inputs = keras.Input((32, 32, 3))
    x = layers.ReLU()(conv_norm(inputs, 16, 3, 1, "conv1", "bn1"))
    for stage, width in enumerate((16, 32, 64)):
        for i in range(3):
            name, stride = f"layer{stage + 1}_{i}", 2 if stage and not i else 1
            y = layers.ReLU()(conv_norm(x, width, 3, stride, f"{name}/conv1", f"{name}/bn1"))
            y = conv_norm(y, width, 3, 1, f"{name}/conv2", f"{name}/bn2")
            if stride > 1:
                x = conv_norm(x, width, 1, stride, f"{name}/conv_shortcut", f"{name}/bn_shortcut")
            x = layers.ReLU()(x + y)
    named["classifier"] = layers.Dense(10)
    return keras.Model(inputs, named["classifier"](layers.GlobalAveragePooling2D()(x))), named


def vgg10():
    """Conv, conv, max pool, again and again; dropout, which evaluation leaves out, is not there."""
    named = {}
    inputs = x = keras.Input((32, 32, 3))
    for block, width in enumerate((32, 48, 64, 128)):
        for i in range(2):
            named[f"conv{block + 1}_{i + 1}"] = layers.Conv2D(
                width, 3, padding="same", activation="relu"
            )
            x = named[f"conv{block + 1}_{i + 1}"](x)
        x = layers.MaxPooling2D()(x)
    named["dense"], named["classifier"] = layers.Dense(512, activation="relu"), layers.Dense(10)
    return keras.Model(
        inputs, named["classifier"](named["dense"](layers.GlobalAveragePooling2D()(x)))
    ), named


PARTS = {
    "kernel": ("params", "kernel"),
    "bias": ("params", "bias"),
    "gamma": ("params", "scale"),
    "beta": ("params", "bias"),
    "moving_mean": ("batch_stats", "mean"),
    "moving_variance": ("batch_stats", "var"),
}


def variables_of(named):
    """Those of the Keras layers under our names."""
    flat = {}
    for name, layer in named.items():
        for variable in layer.weights:
            collection, part = PARTS[variable.path.split("/")[-1]]
            flat[f"{collection}/{name}/{part}"] = np.asarray(variable.numpy())
    return flat


@pytest.mark.parametrize(
    ("build", "config"), [(resnet20, cifar_resnet20), (vgg10, cifar_vgg10_base)]
)
def test_report_es_networks_are_keras_own(build, config):
    theirs, named = build()
    random = np.random.default_rng(1)
    for layer in named.values():
        for variable in layer.weights:
            if (
                len(variable.shape) == 1
            ):  # biases, scales and statistics of a network that has trained
                variable.assign(np.abs(0.5 + 0.2 * random.normal(size=variable.shape)))
    options = config.get_config().model.to_dict() | {"dropout": 0.0}
    model_options = {
        key: options[key] for key in ("name", "keras_defaults", "last_pool") if key in options
    }
    model = models.create(ConfigDict(model_options), num_classes=10)
    flat = variables_of(named)
    ours = trees.flatten(jax.eval_shape(model.init, jax.random.key(0), IMAGES))
    assert {path: leaf.shape for path, leaf in ours.items()} == {
        path: leaf.shape for path, leaf in flat.items()
    }
    assert theirs.count_params() == sum(leaf.size for leaf in flat.values())
    variables = generated.tree(flat)
    expected = np.asarray(theirs(IMAGES, training=False).detach())
    np.testing.assert_allclose(
        model.apply(variables, IMAGES), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max()
    )
    if build is resnet20:
        theirs(IMAGES, training=True)
        _, changed = model.apply(variables, IMAGES, train=True, mutable=["batch_stats"])
        after = variables_of(named)
        for path, leaf in trees.flatten(changed).items():
            np.testing.assert_allclose(leaf, after[path], rtol=1e-3, atol=1e-5, err_msg=path)
            assert np.abs(after[path] - flat[path]).max() > 1e-4
