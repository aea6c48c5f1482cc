"""ResNet-20 and the SE-ResNet: counts, Keras' defaults, options, pre-activation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from generated import initialized
from ml_collections import ConfigDict

from imgcls_jax import models, trees
from imgcls_jax.errors import ConfigError
from imgcls_jax.models.cifar_resnet import KERAS, BasicBlock
from imgcls_jax.models.cpu_kernels import NHWC

IMAGES = jnp.asarray(np.random.default_rng(0).random((2, 32, 32, 3)), jnp.float32)
SMALL = {
    "name": "se_resnet",
    "blocks": (1, 1),
    "kernels": (3, 3),
    "shortcut_kernels": (1, 1),
    "width": 8,
}


def create(**options):
    return models.create(ConfigDict(options), num_classes=10)


def shapes(**options):
    """The shapes of a model's parameters by their paths."""
    variables = jax.eval_shape(lambda: create(**options).init(jax.random.key(0), IMAGES))
    return {path: leaf.shape for path, leaf in trees.flatten(variables["params"]).items()}


# ---------------------------------------------------------------------------------------------
# ResNet-20


@pytest.mark.parametrize("keras_defaults", [False, True])
def test_resnet20_with_its_statistics_has_the_count_of_report_e(keras_defaults):
    model = create(name="resnet20", keras_defaults=keras_defaults)
    variables = jax.eval_shape(model.init, jax.random.key(0), IMAGES)
    assert trees.count(variables) == 274_826


def first_convolutions(model):
    """The variables, and the updates of a training step.

    The updates have the outputs of the first convolutions of stages 2 and 3.
    """
    variables = initialized(model, IMAGES)
    layers = {"layer2_0": "conv1", "layer3_0": "conv_shortcut"}

    def is_captured(module, _):
        return module.parent and layers.get(module.parent.name) == module.name

    _, updated = model.apply(
        variables,
        IMAGES,
        train=True,
        mutable=["batch_stats", "intermediates"],
        capture_intermediates=is_captured,
    )
    return variables, updated


@pytest.fixture(scope="module")
def keras_step():
    """A small ResNet-20 with Keras' defaults, its variables, and the updates of a training step."""
    model = create(name="resnet20", keras_defaults=True).clone(blocks=(1, 1, 1))
    return model, *first_convolutions(model)


def test_keras_padding_and_momentum(keras_step):
    model, variables, updated = keras_step
    first_stage = model.clone(blocks=(1,), kernels=(3,), shortcut_kernels=(1,))
    features, _ = first_stage.apply(
        variables, IMAGES, train=True, mutable=["batch_stats"], method="features"
    )
    # `same` at strides of 2 pads only below and to the right.
    padded = jnp.pad(features, ((0, 0), (0, 1), (0, 1), (0, 0)))
    layer = variables["params"]["layer2_0"]["conv1"]
    expected = jax.lax.conv_general_dilated(
        padded, layer["kernel"], (2, 2), "VALID", dimension_numbers=NHWC
    )
    (convolved,) = updated["intermediates"]["layer2_0"]["conv1"]["__call__"]
    np.testing.assert_allclose(convolved, expected + layer["bias"], atol=1e-4)

    stored_mean = updated["batch_stats"]["layer2_0"]["bn1"]["mean"]
    np.testing.assert_allclose(stored_mean, 0.01 * convolved.mean((0, 1, 2)), atol=1e-6)


@pytest.mark.parametrize(("path", "fans"), [("layer3_0/conv2", 2 * 9 * 64), ("classifier", 74)])
def test_keras_initial_weights(keras_step, path, fans):
    _, variables, _ = keras_step
    kernel = trees.flatten(variables["params"])[f"{path}/kernel"]
    bound = np.sqrt(6 / fans)
    assert 0.95 * bound < np.abs(kernel).max() <= bound
    assert abs(kernel.std() * np.sqrt(3) / bound - 1) < 0.05


def test_keras_epsilon():
    """With one identity convolution after a constant, BatchNorm's output is known up to epsilon."""
    block = BasicBlock(8, defaults=KERAS)
    x = jnp.full((1, 4, 4, 8), 2.0)
    variables = initialized(block, x, train=False)
    params = jax.tree.map(jnp.zeros_like, variables["params"])
    params["conv2"]["kernel"] = params["conv2"]["kernel"].at[1, 1].set(jnp.eye(8))
    params["bn1"]["bias"] = jnp.ones(8)
    params["bn2"]["scale"] = jnp.ones(8)
    y = block.apply({**variables, "params": params}, x, train=False)
    np.testing.assert_allclose(y, 2 + 1 / np.sqrt(1 + 1e-3), rtol=1e-6)


def test_momentum_without_keras_defaults():
    _, updated = first_convolutions(create(name="resnet20", blocks=(1, 1, 1)))
    (convolved,) = updated["intermediates"]["layer3_0"]["conv_shortcut"]["__call__"]
    stored_mean = updated["batch_stats"]["layer3_0"]["bn_shortcut"]["mean"]
    np.testing.assert_allclose(stored_mean, 0.1 * convolved.mean((0, 1, 2)), atol=1e-6)


# ---------------------------------------------------------------------------------------------
# SE-ResNet, and options of both


def test_the_parts_of_the_se_resnet():
    params = shapes(name="se_resnet")
    assert params["se_stem/fc1/kernel"] == (1, 1, 64, 4)
    assert params["layer2_0/conv_shortcut/kernel"] == (1, 1, 64, 128)
    assert "layer1_0/conv_shortcut/kernel" not in params
    blocks = {path.split("/")[0] for path in params if path.startswith("layer")}
    expected = set()
    for stage, depth in ((1, 4), (2, 4), (3, 3)):
        expected |= {f"layer{stage}_{index}" for index in range(depth)}
    assert blocks == expected


def test_squeeze_and_excitation_can_be_nowhere_or_in_blocks():
    without = shapes(**SMALL, se="none")
    assert not any("se" in path.split("/")[0] for path in without)
    in_blocks = shapes(**SMALL, se="blocks", se_ratio=4)
    assert in_blocks["layer2_0/se/fc1/kernel"] == (1, 1, 16, 4)
    assert "se_stem/fc1/kernel" not in in_blocks


def test_kernel_sizes_of_stages_and_shortcuts():
    params = shapes(**SMALL | {"kernels": (3, 5), "shortcut_kernels": (1, 3)})
    assert params["layer1_0/conv1/kernel"] == (3, 3, 8, 8)
    assert params["layer2_0/conv2/kernel"] == (5, 5, 16, 16)
    assert params["layer2_0/conv_shortcut/kernel"] == (3, 3, 8, 16)


def test_pre_activation_has_a_last_norm_and_none_in_shortcuts():
    params = shapes(**SMALL, preact=True)
    assert "bn_last/scale" in params
    assert "layer2_0/conv_shortcut/kernel" in params
    assert "bn1/scale" not in params
    assert "layer2_0/bn_shortcut/scale" not in params


def test_the_number_of_stages_is_free():
    model = create(name="resnet20", blocks=(3, 4), kernels=(3, 3), shortcut_kernels=(1, 1))
    assert model.blocks == (3, 4)


@pytest.mark.parametrize("options", [{}, {"preact": True}, {"se": "blocks"}, {"dropout": 0.3}])
def test_features_and_training(options):
    model = create(**SMALL, **options)
    variables = initialized(model, IMAGES)
    assert model.apply(variables, IMAGES, method="features").shape == (2, 16, 16, 16)

    def train(seed):
        rngs = {"dropout": jax.random.key(seed)}
        logits, _ = model.apply(variables, IMAGES, train=True, mutable=["batch_stats"], rngs=rngs)
        return logits

    assert train(1).shape == (2, 10)
    depends_on_the_key = not np.array_equal(train(1), train(2))
    assert depends_on_the_key == ("dropout" in options)


@pytest.mark.parametrize("preact", [True, False])
def test_a_block_with_zero_kernels_is_its_shortcut(preact):
    """The identity: rectified, unless activation comes before the convolutions."""
    x = jnp.asarray(np.random.default_rng(1).normal(size=(2, 4, 4, 8)), jnp.float32)
    block = BasicBlock(8, preact=preact)
    variables = initialized(block, x, train=False)
    zeros = jax.tree.map(jnp.zeros_like, variables["params"])
    y = block.apply({**variables, "params": zeros}, x, train=False)
    expected = x if preact else np.maximum(x, 0)
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"se": "everywhere"}, "blocks, none, stem"),
        ({"kernels": (3, 3, 3)}, "each of the 2 stages"),
        ({"shortcut_kernels": (2, 1)}, "odd size"),
        ({"blocks": (1, 0)}, "at least one block"),
        ({"dropout": 1.0}, "below 1"),
        ({"depth": 3}, "Its options: blocks, dropout"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        create(**SMALL | options)
