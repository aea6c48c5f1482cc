"""The studies on weights that can be had: what trains in each of their rows, by paths and numbers."""

import re

import jax
import numpy as np
import pytest

from configs.studies import (
    cifar_levels_lite0,
    cifar_unfreezing_small,
    hybrid_next_steps_imagenet,
    lora_ablation_imagenet,
)
from imgcls_jax import trees
from imgcls_jax.training import adapt, setup
from imgcls_jax.training.initializer import Initializer

LEVELS, LORA = cifar_levels_lite0.get_config().rows, lora_ablation_imagenet.get_config().rows
SE = 80 * 1280 * 2 + 80 + 1280
LAST_STAGE = 2_670_240  # of Lite0: blocks 6 and 7 and the last convolution, with their norms
PAIRS = {
    "no_lora": None,
    "first": "(stem|block1a)/",
    "middle": "block[45]./(expand|project)/",
    "first_and_middle": "(stem|block1a)/|block[45]./(expand|project)/",
    "no_projection": "(stem|block1a)/|block[45]./(expand|project)/",
}


def shapes(config):
    """The model, its parameters without content, and its images."""
    model, transform = setup.build_model(config, num_classes=10)
    images = np.zeros((1, 32, 32, 1 if config.data.name == "mnist" else 3), np.uint8)
    image = jax.eval_shape(transform, images)
    return model, Initializer(model, image, seed=0).shapes["params"], image


@pytest.mark.parametrize(
    ("row", "count"),
    [
        ("d1_frozen", 12_810),
        ("d2_finetune", LAST_STAGE + 12_810),
        ("d3_se", LAST_STAGE + 12_810 + SE),
    ],
)
def test_what_trains_on_each_level(row, count):
    config = LEVELS[row].config
    model, params, image = shapes(config)
    adaptation = adapt.create(config, model, params, image)
    assert trees.count(adaptation.split(params)[0]) == count
    assert adaptation.features_frozen == (row == "d1_frozen")  # computed once there


@pytest.fixture(scope="module")
def kernels():
    """The paths of the hybrid's kernels."""
    _, params, _ = shapes(LORA.first.config.copy_and_resolve_references())
    return [path for path in trees.flatten(params) if path.endswith("/kernel")]


@pytest.mark.parametrize("row", PAIRS)
def test_where_low_rank_pairs_stand(row, kernels):
    config = LORA[row].config
    targets = trees.matching("adapt.lora.targets", config.adapt.lora.targets, kernels)
    wanted = [path for path in kernels if PAIRS[row] and re.search(PAIRS[row], path)]
    assert targets == wanted
    for backbone in lora_ablation_imagenet.BACKBONES:
        assert any(path.startswith(backbone) for path in targets) == (row != "no_lora")
    projected = config.model.projection > 0
    assert projected == (row != "no_projection") == ("^projection_" in config.adapt.trainable)


@pytest.mark.parametrize("study", [lora_ablation_imagenet, hybrid_next_steps_imagenet])
def test_one_option_names_the_file_for_all_rows(study):
    config = study.get_config()
    config.weights, config.images = "b0.h5", 100
    rows = [row.config for row in config.copy_and_resolve_references().rows.values()]
    assert {row.model.pretrained for row in rows} == {"b0.h5,efficientnet_lite0"}
    assert {row.data.train_size for row in rows} == {100} and len(rows) == 5


def test_the_studies_of_unfreezing_take_a_file():
    config = cifar_unfreezing_small.get_config()
    config.weights = "b0.h5"
    rows = [row.config for row in config.copy_and_resolve_references().rows.values()]
    assert {row.model.pretrained for row in rows} == {"b0.h5"}
    depths = [row.adapt.phases.phase2.adapt.last_layers for row in rows]
    assert depths == [10, 30, 50, 270]


def test_the_last_stages_train_in_partial_finetuning():
    row = hybrid_next_steps_imagenet.get_config().rows["2_partial_finetuning"].config
    config = row.copy_and_resolve_references()
    model, params, image = shapes(config)
    adaptation = adapt.create(config, model, params, image)
    trained = trees.flatten(adaptation.split(params)[0])
    modules = {"/".join(path.split("/")[:2]) for path in trained}
    assert {module for module in modules if module.startswith("efficientnet_lite0/")} == {
        "efficientnet_lite0/block7a",
        "efficientnet_lite0/top",
    }
    assert any(module.startswith("efficientnetv2_b0/block6") for module in modules)
    assert not any(module.startswith("efficientnetv2_b0/block5") for module in modules)
