"""What models cost: multiply-adds against published figures and by hand, times that are there."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from ml_collections import ConfigDict

from imgcls_jax import models
from imgcls_jax.evaluation import cost
from imgcls_jax.run.folder import CONFIG, DATA, RunFolder

# As torchvision publishes them with its weights, at 224x224 and 1,000 classes, in 10^9 multiply-adds.
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
    counted = cost.multiply_adds(
        lambda variables, x: model.apply(variables, x, train=False), variables, image
    )
    assert counted / 1e9 == pytest.approx(PUBLISHED[name], rel=0.005)


def test_multiply_adds_by_hand():
    x, w = jnp.ones((2, 8, 8, 6)), jnp.ones((3, 3, 2, 12))

    def convolve(x, w):
        return lax.conv_general_dilated(
            x, w, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=3
        )

    assert cost.multiply_adds(jax.jit(convolve), x, w) == (2 * 4 * 4 * 12) * (3 * 3 * 2)
    product = lambda a: jnp.einsum("bij,bjk->bik", a, a)  # noqa: E731
    assert cost.multiply_adds(product, jnp.ones((5, 7, 7))) == 5 * 7**3
    repeated = lambda a: lax.scan(lambda carry, _: (carry @ a, None), a, length=11)[0]  # noqa: E731
    assert cost.multiply_adds(repeated, jnp.ones((3, 3))) == 11 * 3**3


def run_of(folder, filters) -> RunFolder:
    """As much of a run's folder as a meter reads."""
    folder.mkdir()
    run = RunFolder(folder)
    model = {
        "name": "cnn",
        "filters": filters,
        "hidden": 4,
        "pretrained": f"the weights of {folder.name}",
    }
    train = {"precision": "float32", "views": "flip"}
    options = {"seed": 0, "data": {"source": "digits", "transform": "normalize(.5, .5)"}}
    run.write_json(CONFIG, options | {"model": model, "train": train})
    run.write_json(
        DATA, {"class_names": ["a", "b", "c"], "splits": {"train": {"shape": [12, 12, 1]}}}
    )
    return run


def test_runs_of_one_model_are_measured_once(tmp_path, monkeypatch):
    calls, measure = [], cost.measure
    monkeypatch.setattr(
        cost, "measure", lambda *args, **options: calls.append(1) or measure(*args, **options)
    )
    widths = {"one": [4, 4], "other": [4, 4], "wide": [8, 8]}
    one, other, wide = map(
        cost.Meter(), [run_of(tmp_path / name, filters) for name, filters in widths.items()]
    )
    assert one is other and len(calls) == 2
    # For each of two views, valid 3x3 convolutions at 10x10 and, after a pool, 3x3; then two dense layers.
    assert one.multiply_adds == 2 * (100 * 4 * 9 + 9 * 4 * 4 * 9 + 36 * 4 + 4 * 3)
    assert (
        wide.multiply_adds > one.multiply_adds and wide.latency > 0 and wide.images_per_second > 0
    )
