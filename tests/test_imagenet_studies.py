"""The studies on weights that can be had: what trains in each of their rows, by paths and numbers."""

import re

import jax
import numpy as np
import pytest

from configs.studies import cifar_levels_lite0, lora_ablation_imagenet
from imgcls_jax import trees
from imgcls_jax.training import adapt, setup, steps

ROWS = {
    **cifar_levels_lite0.get_config().rows,
    **lora_ablation_imagenet.get_config().rows,
}
PROJECTIONS, HEADS = 2 * 1281 * 512, {True: 1025 * 256 + 2570, False: 2561 * 256 + 2570}
SE = 80 * 1280 * 2 + 80 + 1280
LAST_STAGE = 2_670_240  # of Lite0: blocks 6 and 7 and the last convolution, with their norms
PATTERNS = {
    "no_lora": "^$",
    "first": "(stem|block1a)/",
    "middle": "block[45]./(expand|project)/",
    "first_and_middle": "(stem|block1a)/|block[45]./(expand|project)/",
    "no_projection": "(stem|block1a)/|block[45]./(expand|project)/",
}


def split(row: str) -> tuple[dict[str, tuple[int, ...]], adapt.Adaptation]:
    """Shapes of what trains by path, and the adaptation."""
    config = ROWS[row].config.copy_and_resolve_references()
    channels = 1 if config.data.name == "mnist" else 3
    model, transform = setup.build_model(config, num_classes=10)
    images = np.zeros((1, 32, 32, channels), np.uint8)
    params, _ = jax.eval_shape(lambda: steps.initialize(model, transform, images, seed=0))
    image = jax.eval_shape(transform, images)
    adaptation, params = adapt.create(config, model, params, image, seed=0)
    trainable = trees.flatten(adaptation.split(params)[0])
    return {path: leaf.shape for path, leaf in trainable.items()}, adaptation


@pytest.mark.parametrize(
    ("row", "count"),
    [("d1_frozen", 12_810), ("d2_finetune", LAST_STAGE + 12_810), ("d3_se", LAST_STAGE + 12_810 + SE)],
)
def test_levels(row, count):
    shapes, adaptation = split(row)
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == count
    assert adaptation.features_frozen == (row == "d1_frozen")  # computed once there


@pytest.mark.parametrize("row", PATTERNS)
def test_where_low_rank_pairs_stand(row):
    shapes, _ = split(row)
    pairs = {path for path in shapes if path.startswith("lora/")}
    assert all(re.search(PATTERNS[row], path) for path in pairs)
    backbones = {path.split("/")[1] for path in pairs}
    assert backbones == (set() if row == "no_lora" else set(lora_ablation_imagenet.BACKBONES))
    others = sum(int(np.prod(shape)) for path, shape in shapes.items() if path not in pairs)
    projected = row != "no_projection"
    assert others == HEADS[projected] + PROJECTIONS * projected
    both, first, middle = ({*split(name)[0]} for name in ("first_and_middle", "first", "middle"))
    assert both == first | middle and len(both) > max(len(first), len(middle))


def test_one_option_names_the_file_for_all_rows():
    config = lora_ablation_imagenet.get_config()
    config.weights, config.images = "b0.h5", 100
    rows = [row.config for row in config.copy_and_resolve_references().rows.values()]
    assert {row.model.pretrained for row in rows} == {"b0.h5,efficientnet_lite0"}
    assert {row.data.train for row in rows} == {100} and len(rows) == 5
