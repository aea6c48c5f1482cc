"""Report E's networks beside Keras' default layers, with the same weights."""

import generated
import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from reference import keras

from configs import cifar_resnet20, cifar_vgg10_base
from imgcls_jax import models, trees

# A warning of Keras on torch.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
layers = keras.layers
IMAGES = np.random.default_rng(0).random((8, 32, 32, 3)).astype(np.float32)


def keras_resnet20():
    """Keras' model of the report's blocks, and its layers by our names."""
    named = {}

    def conv_norm(x, width, kernel, stride, conv, norm):
        named[conv] = layers.Conv2D(width, kernel, strides=stride, padding="same")
        named[norm] = layers.BatchNormalization()
        return named[norm](named[conv](x))

    def block(x, name, width, stride):
        y = conv_norm(x, width, 3, stride, f"{name}/conv1", f"{name}/bn1")
        y = layers.ReLU()(y)
        y = conv_norm(y, width, 3, 1, f"{name}/conv2", f"{name}/bn2")
        if stride > 1:
            x = conv_norm(x, width, 1, stride, f"{name}/conv_shortcut", f"{name}/bn_shortcut")
        return layers.ReLU()(x + y)

    inputs = keras.Input((32, 32, 3))
    x = layers.ReLU()(conv_norm(inputs, 16, 3, 1, "conv1", "bn1"))
    for stage, width in enumerate((16, 32, 64), 1):
        for i in range(3):
            stride = 2 if stage > 1 and i == 0 else 1
            x = block(x, f"layer{stage}_{i}", width, stride)
    x = layers.GlobalAveragePooling2D()(x)
    named["classifier"] = layers.Dense(10)
    return keras.Model(inputs, named["classifier"](x)), named


def keras_vgg10():
    """Keras' model of convolutions and max pools, without dropout, and its layers by our names."""
    named = {}
    inputs = keras.Input((32, 32, 3))
    x = inputs
    for block, width in enumerate((32, 48, 64, 128), 1):
        for i in (1, 2):
            conv = layers.Conv2D(width, 3, padding="same", activation="relu")
            named[f"conv{block}_{i}"] = conv
            x = conv(x)
        x = layers.MaxPooling2D()(x)
    named["dense"] = layers.Dense(512, activation="relu")
    named["classifier"] = layers.Dense(10)
    x = named["dense"](layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, named["classifier"](x)), named


# Keras' name of a variable -> the collection, and our name.
VARIABLES = {
    "kernel": ("params", "kernel"),
    "bias": ("params", "bias"),
    "gamma": ("params", "scale"),
    "beta": ("params", "bias"),
    "moving_mean": ("batch_stats", "mean"),
    "moving_variance": ("batch_stats", "var"),
}


def arrays_of(named) -> dict[str, np.ndarray]:
    """The variables of the Keras layers by our paths."""
    arrays = {}
    for layer_name, layer in named.items():
        for variable in layer.weights:
            collection, leaf = VARIABLES[variable.path.split("/")[-1]]
            arrays[f"{collection}/{layer_name}/{leaf}"] = np.asarray(variable.numpy())
    return arrays


def randomize_vectors(named) -> None:
    """Gives biases, scales and statistics the values of a network that has trained."""
    rng = np.random.default_rng(1)
    for layer in named.values():
        for variable in layer.weights:
            if len(variable.shape) == 1:
                variable.assign(np.abs(0.5 + 0.2 * rng.normal(size=variable.shape)))


def create(config):
    """Our model of a config, without dropout."""
    options = {}
    for option in ("name", "keras_defaults", "last_pool"):
        if option in config.model:
            options[option] = config.model[option]
    return models.create(ConfigDict(options), num_classes=10)


@pytest.mark.parametrize(
    ("build", "config"), [(keras_resnet20, cifar_resnet20), (keras_vgg10, cifar_vgg10_base)]
)
def test_networks_of_report_e_equal_those_of_keras(build, config):
    keras_model, named = build()
    randomize_vectors(named)
    arrays = arrays_of(named)
    assert keras_model.count_params() == sum(array.size for array in arrays.values())

    model = create(config.get_config())
    expected_shapes = {path: array.shape for path, array in arrays.items()}
    shapes = trees.flatten(jax.eval_shape(model.init, jax.random.key(0), IMAGES))
    assert {path: leaf.shape for path, leaf in shapes.items()} == expected_shapes

    variables = generated.tree(arrays)
    expected = np.asarray(keras_model(IMAGES, training=False).detach())
    logits = model.apply(variables, IMAGES)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_statistics_of_resnet20_after_a_training_step():
    keras_model, named = keras_resnet20()
    randomize_vectors(named)
    before = arrays_of(named)
    keras_model(IMAGES, training=True)
    after = arrays_of(named)

    model = create(cifar_resnet20.get_config())
    _, updated = model.apply(generated.tree(before), IMAGES, train=True, mutable=["batch_stats"])
    for path, leaf in trees.flatten(updated).items():
        np.testing.assert_allclose(leaf, after[path], rtol=1e-3, atol=1e-5, err_msg=path)
        assert np.abs(after[path] - before[path]).max() > 1e-4
