import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from imgcls_jax import models, trees
from imgcls_jax.errors import ConfigError
from imgcls_jax.models.cifar_resnet import KERAS, BasicBlock

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


def paths(**options):
    variables = jax.eval_shape(lambda: create(**options).init(jax.random.key(0), IMAGES))
    return {path: leaf.shape for path, leaf in trees.flatten(variables["params"]).items()}


def test_resnet20_with_its_statistics_has_the_count_of_report_e():
    variables = jax.eval_shape(lambda: create(name="resnet20").init(jax.random.key(0), IMAGES))
    assert trees.count(variables) == 274_826


def first_convolutions(model, images=IMAGES):
    """The variables after a step of training, and what the first convolutions of stages 2 and 3 made in it."""
    variables = jax.jit(model.init)(jax.random.key(0), images)
    layers = {"layer2_0": "conv1", "layer3_0": "conv_shortcut"}
    chosen = lambda module, _: module.parent and layers.get(module.parent.name) == module.name  # noqa: E731
    _, changed = model.apply(
        variables,
        images,
        train=True,
        mutable=["batch_stats", "intermediates"],
        capture_intermediates=chosen,
    )
    return variables, changed


def test_resnet20_with_the_defaults_of_keras():
    """Padding, initial weights, epsilon and momentum; the parameters are those without."""
    whole = create(name="resnet20", keras_defaults=True)
    assert trees.count(jax.eval_shape(whole.init, jax.random.key(0), IMAGES)) == 274_826
    model = whole.clone(blocks=(1, 1, 1))
    variables, changed = first_convolutions(model)
    before = model.clone(blocks=(1,), kernels=(3,), shortcut_kernels=(1,))
    maps = before.apply(variables, IMAGES, train=True, mutable=["batch_stats"], method="features")[
        0
    ]
    layer = variables["params"]["layer2_0"]["conv1"]
    padded = jnp.pad(
        maps, ((0, 0), (0, 1), (0, 1), (0, 0))
    )  # `same` at strides of 2: below and to the right alone
    expected = jax.lax.conv_general_dilated(
        padded, layer["kernel"], (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    (convolved,) = changed["intermediates"]["layer2_0"]["conv1"]["__call__"]
    np.testing.assert_allclose(convolved, expected + layer["bias"], atol=1e-4)
    np.testing.assert_allclose(
        changed["batch_stats"]["layer2_0"]["bn1"]["mean"],
        0.01 * convolved.mean((0, 1, 2)),
        atol=1e-6,
    )
    for path, fan in (("layer3_0/conv2", 2 * 9 * 64), ("classifier", 64 + 10)):
        kernel = trees.flatten(variables["params"])[f"{path}/kernel"]
        bound = np.sqrt(6 / fan)
        assert (
            0.95 * bound < np.abs(kernel).max() <= bound
            and abs(kernel.std() * np.sqrt(3) / bound - 1) < 0.05
        )
    block = BasicBlock(8, defaults=KERAS)
    x = jnp.full((1, 4, 4, 8), 2.0)
    still = block.init(jax.random.key(0), x, train=False)
    kernels = jax.tree.map(jnp.zeros_like, still["params"])
    kernels["conv2"]["kernel"] = kernels["conv2"]["kernel"].at[1, 1].set(jnp.eye(8))
    kernels["bn1"]["bias"], kernels["bn2"]["scale"] = jnp.ones(8), jnp.ones(8)
    y = block.apply({"params": kernels, "batch_stats": still["batch_stats"]}, x, train=False)
    np.testing.assert_allclose(y, 2 + 1 / np.sqrt(1 + 1e-3), rtol=1e-6)


def test_resnet20_without_them_is_what_it_was():
    _, changed = first_convolutions(create(name="resnet20", blocks=(1, 1, 1)))
    (convolved,) = changed["intermediates"]["layer3_0"]["conv_shortcut"]["__call__"]
    stored = changed["batch_stats"]["layer3_0"]["bn_shortcut"]["mean"]
    np.testing.assert_allclose(stored, 0.1 * convolved.mean((0, 1, 2)), atol=1e-6)


def test_the_parts_of_the_se_resnet():
    found = paths(name="se_resnet")
    assert found["se_stem/fc1/kernel"] == (1, 1, 64, 4)
    assert found["layer2_0/conv_shortcut/kernel"] == (1, 1, 64, 128)
    assert "layer1_0/conv_shortcut/kernel" not in found
    assert {path.split("/")[0] for path in found if path.startswith("layer")} == {
        f"layer{stage}_{index}"
        for stage, depth in ((1, 4), (2, 4), (3, 3))
        for index in range(depth)
    }


def test_options():
    assert not any("se" in path.split("/")[0] for path in paths(**SMALL, se="none"))
    in_blocks = paths(**SMALL, se="blocks", se_ratio=4)
    assert (
        in_blocks["layer2_0/se/fc1/kernel"] == (1, 1, 16, 4)
        and "se_stem/fc1/kernel" not in in_blocks
    )
    wider = paths(**SMALL | {"kernels": (3, 5), "shortcut_kernels": (1, 3)})
    assert wider["layer2_0/conv2/kernel"] == (5, 5, 16, 16) and wider["layer1_0/conv1/kernel"] == (
        3,
        3,
        8,
        8,
    )
    assert wider["layer2_0/conv_shortcut/kernel"] == (3, 3, 8, 16)
    preact = paths(**SMALL, preact=True)
    assert {"bn_last/scale", "layer2_0/conv_shortcut/kernel"} <= set(preact)
    assert not {"bn1/scale", "layer2_0/bn_shortcut/scale"} & set(preact)
    assert create(
        name="resnet20", blocks=(3, 4), kernels=(3, 3), shortcut_kernels=(1, 1)
    ).blocks == (3, 4)


@pytest.mark.parametrize("options", [{}, {"preact": True}, {"se": "blocks"}, {"dropout": 0.3}])
def test_maps_and_training(options):
    model = create(**SMALL, **options)
    variables = model.init(jax.random.key(0), IMAGES)
    assert model.apply(variables, IMAGES, method="features").shape == (2, 16, 16, 16)

    def train(key):
        return model.apply(
            variables, IMAGES, train=True, mutable=["batch_stats"], rngs={"dropout": key}
        )[0]

    one, other = train(jax.random.key(1)), train(jax.random.key(2))
    assert one.shape == (2, 10) and np.array_equal(one, other) == ("dropout" not in options)


def test_a_preactivated_block_by_hand():
    """With all kernels zero a block is its shortcut: the identity, not rectified."""
    x = jnp.asarray(np.random.default_rng(1).normal(size=(2, 4, 4, 8)), jnp.float32)
    for preact in (True, False):
        block = BasicBlock(8, preact=preact)
        variables = block.init(jax.random.key(0), x, train=False)
        zeros = jax.tree.map(jnp.zeros_like, variables["params"])
        y = block.apply({"params": zeros, "batch_stats": variables["batch_stats"]}, x, train=False)
        np.testing.assert_array_equal(y, x if preact else np.maximum(x, 0))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"se": "everywhere"}, "blocks, none, stem"),
        ({"kernels": (3, 3, 3)}, "each of the 2 stages"),
        ({"shortcut_kernels": (2, 1)}, "odd size"),
        ({"blocks": (1, 0)}, "at least one block"),
        ({"dropout": 1.0}, "below 1"),
        ({"depth": 3}, "Its options: blocks, dropout"),
    ],
)
def test_options_that_cannot_be(options, said):
    with pytest.raises(ConfigError, match=said):
        create(**SMALL | options)
