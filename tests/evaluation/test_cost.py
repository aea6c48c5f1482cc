"""What models cost: multiply-adds against published figures and by hand; times."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from ml_collections import ConfigDict

from imgcls_jax import models
from imgcls_jax.evaluation import cost
from imgcls_jax.run.folder import CONFIG, DATA, RunFolder

# As torchvision publishes them with its weights, at 224x224 and 1,000 classes: 10^9 multiply-adds.
PUBLISHED = {
    "resnet18": 1.814,
    "resnet50": 4.089,
    "googlenet": 1.498,
    "efficientnet_b0": 0.386,
    "convnext_tiny": 4.456,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_multiply_adds_are_the_published_ones(name):
    model = models.create(ConfigDict({"name": name}), num_classes=1000)
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)

    def logits(variables, x):
        return model.apply(variables, x, train=False)

    counted = cost.multiply_adds(logits, variables, image)
    assert counted / 1e9 == pytest.approx(PUBLISHED[name], rel=0.005)


def test_multiply_adds_of_a_grouped_convolution_by_hand():
    x = jnp.ones((2, 8, 8, 6))
    w = jnp.ones((3, 3, 2, 12))

    @jax.jit
    def convolve(x, w):
        layout = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(
            x, w, (2, 2), "SAME", dimension_numbers=layout, feature_group_count=3
        )

    assert cost.multiply_adds(convolve, x, w) == (2 * 4 * 4 * 12) * (3 * 3 * 2)


def test_multiply_adds_of_products_by_hand():
    def product(a):
        return jnp.einsum("bij,bjk->bik", a, a)

    def eleventh_power(a):
        def multiply(carry, _):
            return carry @ a, None

        power, _ = lax.scan(multiply, a, length=11)
        return power

    assert cost.multiply_adds(product, jnp.ones((5, 7, 7))) == 5 * 7**3
    assert cost.multiply_adds(eleventh_power, jnp.ones((3, 3))) == 11 * 3**3


def make_run(folder, filters) -> RunFolder:
    """A run folder with as much as a meter reads."""
    folder.mkdir()
    run = RunFolder(folder)
    config = {
        "seed": 0,
        "data": {"source": "digits", "transform": "normalize(.5, .5)"},
        "model": {
            "name": "cnn",
            "filters": filters,
            "hidden": 4,
            "pretrained": f"the weights of {folder.name}",
        },
        "train": {"precision": "float32", "tta": "flip"},
    }
    report = {"class_names": ["a", "b", "c"], "splits": {"train": {"shape": [12, 12, 1]}}}
    run.write_json(CONFIG, config)
    run.write_json(DATA, report)
    return run


def test_runs_of_one_model_are_measured_once(tmp_path, monkeypatch):
    calls = []
    measure = cost.measure

    def counting(*arguments, **options):
        calls.append(arguments)
        return measure(*arguments, **options)

    monkeypatch.setattr(cost, "measure", counting)
    meter = cost.Meter()
    first = meter(make_run(tmp_path / "first", [4, 4]))
    second = meter(make_run(tmp_path / "second", [4, 4]))
    wide = meter(make_run(tmp_path / "wide", [8, 8]))
    assert first is second
    assert len(calls) == 2
    # For each of two views: valid 3x3 convolutions at 10x10 and, after pooling, at 3x3; then two
    # dense layers.
    assert first.multiply_adds == 2 * (100 * 4 * 9 + 9 * 4 * 4 * 9 + 36 * 4 + 4 * 3)
    assert wide.multiply_adds > first.multiply_adds
    assert wide.latency > 0
    assert wide.images_per_second > 0
