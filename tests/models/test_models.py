"""Every registered model: parameter counts, the split in features and head, gradients, bfloat16."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from generated import UNOPTIMIZED, initialized
from ml_collections import ConfigDict

from imgcls_jax import models, trees
from imgcls_jax.data.transforms import parse
from imgcls_jax.errors import ConfigError

# Shape of the images, and parameters; the figures of the reports where they give them.
PARAMETERS = {
    "cnn": ((28, 28, 1), 93_322),  # report B
    "lstm": ((28, 28, 1), 89_290),
    "attention": ((28, 28, 1), 245_258),
    "vgg": ((32, 32, 3), 402_058),  # report E
    "fast_cnn": ((32, 32, 3), 1_971_352),
    "resnet20": ((32, 32, 3), 273_258),  # with its 1,568 batch statistics 274,826, as Keras counts
    "se_resnet": ((32, 32, 3), 4_697_742),  # report C
}
# Models with pretrained weights: parameters with 1,000 classes, running statistics, and the last
# map of 224 x 224 images. EfficientNetV2-B0 has 5,919,312 parameters and statistics without the
# head.
BACKBONES = {
    "resnet18": (11_689_512, 9_600, (7, 7, 512)),
    "resnet50": (25_557_032, 53_120, (7, 7, 2048)),
    "resnet50_keras": (25_583_592, 53_120, (7, 7, 2048)),
    "googlenet": (6_624_904, 14_560, (7, 7, 1024)),
    "efficientnet_b0": (5_288_548, 42_016, (7, 7, 1280)),
    "efficientnetv2_b0": (7_139_704, 60_608, (7, 7, 1280)),
    "efficientnet_lite0": (4_652_008, 42_016, (7, 7, 1280)),
    "convnext_tiny": (28_589_128, 0, (7, 7, 768)),
}
COMPOSED = {"hybrid", "simclr"}  # of other models; they have their own tests


def create(name, **options):
    return models.create(ConfigDict({"name": name, **options}), num_classes=10)


def test_the_model_that_the_readme_adds():
    code = Path("README.md").read_text().split("```python\n")[1].split("```")[0]
    definitions = {}
    exec(code, definitions)
    model = definitions["MLP"](num_classes=10)
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((2, 28, 28, 1)))["params"]
    kernels = 784 * 256 + 256 * 128 + 128 * 10
    assert trees.count(params) == kernels + 256 + 128 + 10


def test_every_model_is_in_the_tables():
    assert set(PARAMETERS) | set(BACKBONES) | COMPOSED == set(models.MODELS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_features_and_head(name):
    shape, parameters = PARAMETERS[name]
    model = create(name)
    x = jnp.zeros((2, *shape))
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), x)
    assert trees.count(variables["params"]) == parameters

    def head(variables, features):
        return model.apply(variables, model.pool(features), method="head")

    features = jax.eval_shape(lambda v, x: model.apply(v, x, method="features"), variables, x)
    assert jax.eval_shape(head, variables, features).shape == (2, 10)


# tests/parity compares the gradients of the backbones with torch's
@pytest.mark.parametrize("name", PARAMETERS)
def test_every_parameter_gets_a_gradient(name):
    model = create(name)
    shape, _ = PARAMETERS[name]
    images = np.random.default_rng(0).integers(0, 256, (2, *shape), dtype=np.uint8)
    transform = parse("")
    x = transform(images)
    variables = initialized(model, x)
    variables = model.prepare(variables, images, transform)

    @functools.partial(jax.jit, compiler_options=UNOPTIMIZED)
    @jax.grad
    def gradient(variables, x):
        logits, _ = model.apply(
            variables,
            x,
            train=True,
            rngs={"dropout": jax.random.key(1)},
            mutable=["batch_stats", "whitening"],
        )
        return (logits**2).sum()

    gradients = trees.flatten(gradient(variables, x)["params"])
    without = [path for path, leaf in gradients.items() if not np.abs(leaf).max() > 0]
    if name == "attention":
        # A key's bias shifts all scores of a row alike, which softmax does not change.
        assert set(without) <= {"key/bias"}
    else:
        assert without == []


def assert_bfloat16_with_float32_parameters(name, x):
    model = models.create(ConfigDict({"name": name}), num_classes=10, dtype=jnp.bfloat16)
    logits, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), x)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert logits.dtype == jnp.bfloat16


@pytest.mark.parametrize("name", PARAMETERS)
def test_bfloat16_activations_with_float32_parameters(name):
    shape, _ = PARAMETERS[name]
    assert_bfloat16_with_float32_parameters(name, jnp.zeros((2, *shape)))


@pytest.mark.parametrize("name", BACKBONES)
def test_backbone(name):
    parameters, statistics, shape = BACKBONES[name]
    model = models.create(ConfigDict({"name": name}), num_classes=1000)
    key = jax.random.key(0)
    x = jnp.zeros((2, 224, 224, 3))
    features, variables = jax.eval_shape(
        lambda x: model.init_with_output(key, x, method="features"), x
    )
    logits, head = jax.eval_shape(
        lambda x: model.init_with_output(key, model.pool(x), method="head"), features
    )
    assert features.shape == (2, *shape)
    assert logits.shape == (2, 1000)
    assert trees.count(variables["params"]) + trees.count(head["params"]) == parameters
    assert trees.count(variables.get("batch_stats", {})) == statistics
    assert_bfloat16_with_float32_parameters(name, jnp.zeros((2, 32, 32, 3)))


def test_filters_are_configurable():
    model = create("cnn", filters=(16, 32, 32))
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    assert variables["params"]["conv_2"]["kernel"].shape == (3, 3, 32, 32)


def test_a_vgg_with_a_last_pool():
    """Its parameters are the same; its map has the maxima of 2x2 positions of the other's."""
    x = jnp.asarray(np.random.default_rng(0).random((2, 32, 32, 3)), jnp.float32)
    pooling = create("vgg", last_pool=True)
    variables = initialized(pooling, x)
    assert trees.count(variables["params"]) == 402_058
    pooled = pooling.apply(variables, x, method="features")
    features = create("vgg").apply(variables, x, method="features")
    assert features.shape == (2, 4, 4, 128)
    tiles = np.asarray(features).reshape(2, 2, 2, 2, 2, 128)
    np.testing.assert_array_equal(pooled, tiles.max((2, 4)))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cn", {}, "Did you mean 'cnn'.*attention, cnn, .*lstm"),
        ("cnn", {"filter": (1, 2)}, "no option 'filter'.*filters, hidden"),
        # They are what makes it a ResNet-18.
        ("resnet18", {"blocks": (1, 1)}, "no option 'blocks'.*Its options: none"),
    ],
)
def test_unknown_models_and_options_are_refused_with_those_that_exist(name, options, message):
    with pytest.raises(ConfigError, match=message):
        create(name, **options)
