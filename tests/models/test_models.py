from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from imgcls_jax import models, trees
from imgcls_jax.data.transforms import parse
from imgcls_jax.errors import ConfigError

# Every registered model with its input and its parameters; the figures of the reports where they give them.
PARAMETERS = {
    "cnn": ((28, 28, 1), 93_322),  # report B
    "lstm": ((28, 28, 1), 89_290),
    "attention": ((28, 28, 1), 245_258),
    "vgg": ((32, 32, 3), 402_058),  # report E
    "fast_cnn": ((32, 32, 3), 1_971_352),
    "resnet20": ((32, 32, 3), 273_258),  # with its 1,568 batch statistics 274,826, as Keras counts
    "se_resnet": ((32, 32, 3), 4_697_742),  # report C
}
# Those with pretrained weights: parameters with 1,000 classes, running statistics, last map of 224 x 224 images.
BACKBONES = {
    "resnet18": (11_689_512, 9_600, (7, 7, 512)),
    "resnet50": (25_557_032, 53_120, (7, 7, 2048)),
    "resnet50_keras": (25_583_592, 53_120, (7, 7, 2048)),
    "googlenet": (6_624_904, 14_560, (7, 7, 1024)),
    "efficientnet_b0": (5_288_548, 42_016, (7, 7, 1280)),
    "efficientnetv2_b0": (
        7_139_704,
        60_608,
        (7, 7, 1280),
    ),  # 5,919,312 with the statistics and without the head
    "efficientnet_lite0": (4_652_008, 42_016, (7, 7, 1280)),
    "convnext_tiny": (28_589_128, 0, (7, 7, 768)),
}


def create(name, **options):
    return models.create(ConfigDict({"name": name, **options}), num_classes=10)


def test_the_model_that_the_readme_adds():
    code = Path("README.md").read_text().split("```python\n")[1].split("```")[0]
    defined = {}
    exec(code, defined)
    model = defined["MLP"](num_classes=10)
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((2, 28, 28, 1)))["params"]
    assert trees.count(params) == 784 * 256 + 256 * 128 + 128 * 10 + 256 + 128 + 10


def test_every_model_stands_in_the_table():
    assert set(PARAMETERS) | set(BACKBONES) | {"hybrid", "simclr"} == set(models.MODELS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_and_seam(name):
    shape, parameters = PARAMETERS[name]
    model = create(name)
    x = jnp.zeros((2, *shape))
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), x)
    assert trees.count(variables["params"]) == parameters
    features = jax.eval_shape(lambda v, x: model.apply(v, x, method="features"), variables, x)
    logits = jax.eval_shape(
        lambda v, x: model.apply(v, model.pool(x), method="head"), variables, features
    )
    assert logits.shape == (2, 10)


@pytest.mark.parametrize(
    "name", PARAMETERS
)  # tests/parity compares the backbones' gradients with torch's
def test_every_parameter_gets_a_gradient(name):
    model = create(name)
    images = np.random.default_rng(0).integers(0, 256, (8, *PARAMETERS[name][0]), dtype=np.uint8)
    x = parse("")(images)
    variables = model.prepare(jax.jit(model.init)(jax.random.key(0), x), images, parse(""))
    rngs, state = {"dropout": jax.random.key(1)}, ["batch_stats", "whitening"]
    apply = lambda v: model.apply(v, x, train=True, rngs=rngs, mutable=state)[0]  # noqa: E731
    grads = jax.jit(jax.grad(lambda v: (apply(v) ** 2).sum()))(variables)["params"]
    without = [path for path, grad in trees.flatten(grads).items() if not np.abs(grad).max() > 0]
    # A key's bias shifts all scores of a row alike, which softmax does not see.
    assert without == [] or (name == "attention" and without == ["key/bias"])


def assert_bfloat16_with_float32_parameters(name, x):
    model = models.create(ConfigDict({"name": name}), num_classes=10, dtype=jnp.bfloat16)
    features, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), x)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert features.dtype == jnp.bfloat16


@pytest.mark.parametrize("name", PARAMETERS)
def test_bfloat16_activations_with_float32_parameters(name):
    assert_bfloat16_with_float32_parameters(name, jnp.zeros((2, *PARAMETERS[name][0])))


@pytest.mark.parametrize("name", BACKBONES)
def test_backbone(name):
    parameters, statistics, shape = BACKBONES[name]
    model = models.create(ConfigDict({"name": name}), num_classes=1000)
    x = jnp.zeros((2, 224, 224, 3))
    features, variables = jax.eval_shape(
        lambda x: model.init_with_output(jax.random.key(0), x, method="features"), x
    )
    assert features.shape == (2, *shape)
    logits, head = jax.eval_shape(
        lambda x: model.init_with_output(jax.random.key(0), model.pool(x), method="head"), features
    )
    assert logits.shape == (2, 1000)
    assert trees.count(variables["params"]) + trees.count(head["params"]) == parameters
    assert trees.count(variables.get("batch_stats", {})) == statistics
    assert_bfloat16_with_float32_parameters(name, jnp.zeros((2, 32, 32, 3)))


def test_filters_are_configurable():
    model = create("cnn", filters=(16, 32, 32))
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    assert variables["params"]["conv_2"]["kernel"].shape == (3, 3, 32, 32)


def test_a_vgg_that_ends_in_a_pool():
    """The same parameters; its maps are the others' largest values of 2x2 places."""
    x = jnp.asarray(np.random.default_rng(0).random((2, 32, 32, 3)), jnp.float32)
    ends, goes_on = create("vgg", last_pool=True), create("vgg")
    variables = jax.jit(ends.init)(jax.random.key(0), x)
    assert trees.count(variables["params"]) == 402_058
    pooled, maps = (model.apply(variables, x, method="features") for model in (ends, goes_on))
    assert maps.shape == (2, 4, 4, 128)
    np.testing.assert_array_equal(pooled, np.asarray(maps).reshape(2, 2, 2, 2, 2, 128).max((2, 4)))


def test_unknown_model_and_option_name_what_there_is():
    with pytest.raises(ConfigError, match="Did you mean 'cnn'.*attention, cnn, .*lstm"):
        create("cn")
    with pytest.raises(ConfigError, match="no option 'filter'.*filters, hidden"):
        create("cnn", filter=(1, 2))
    with pytest.raises(
        ConfigError, match="no option 'blocks'.*Its options: none"
    ):  # they make it a ResNet-18
        create("resnet18", blocks=(1, 1))
