"""A warning where weights see other images than they were trained on, and none where they see the same."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.studies import lora_ablation_imagenet
from imgcls_jax import models, pretrained
from imgcls_jax.data.transforms import parse

LITE0 = {"name": "efficientnet_lite0", "pretrained": "efficientnet_lite0"}


def warning(caplog, model, transform, image_size=0) -> str:
    data = {"transform": transform, "image_size": image_size}
    with caplog.at_level(logging.WARNING):
        pretrained._compare_preprocessing(ConfigDict({"model": model, "data": data}))
    return caplog.text


@pytest.mark.parametrize(
    ("transform", "image_size"),
    [
        ("rgb|resize(256, bicubic)|center_crop(224)|normalize(lite)", 0),
        ("flip|random_crop(16)|resize(224)|normalize(lite)", 0),
        ("normalize(lite)", 224),
    ],
)
def test_the_same_size_and_values_are_not_warned_of(caplog, transform, image_size):
    assert warning(caplog, LITE0, transform, image_size) == ""


@pytest.mark.parametrize(
    ("transform", "image_size", "words"),
    [
        ("resize(160)|normalize(lite)", 0, "of 224x224 pixels through 'rgb|"),
        ("normalize(lite)", 160, "data.transform is 'normalize(lite)' of 160x160 pixels"),
        ("resize(224)|normalize(imagenet)", 0, "center_crop(224)|normalize(lite)'; data.transform is 'resize(224)"),
        ("normalize(lite)", 0, "of 224x224 pixels"),  # of whatever size the images are
    ],
)
def test_another_size_or_other_values_are_said_with_both(caplog, transform, image_size, words):
    assert words in warning(caplog, LITE0, transform, image_size)


def test_each_backbone_of_a_hybrid_is_looked_at(caplog):
    config = lora_ablation_imagenet.get_config().rows.first.config.copy_and_resolve_references()
    config.data.transform = "resize(224)|normalize(imagenet)"
    assert warning(caplog, config.model, config.data.transform) == ""
    config.model.options.efficientnet_lite0.transform_input = False
    assert "The weights efficientnet_lite0 were trained on" in warning(caplog, config.model, config.data.transform)


def test_lite0_takes_images_by_imagenets_figures_where_told():
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8))
    plain = models.create(ConfigDict({"name": "efficientnet_lite0"}), num_classes=3)
    told = models.create(ConfigDict({"name": "efficientnet_lite0", "transform_input": True}), num_classes=3)
    variables = None
    logits = []
    for model, transform in ((plain, "normalize(lite)"), (told, "normalize(imagenet)"), (plain, "normalize(imagenet)")):
        x = parse(transform)(images)
        # Without optimisation the programs compile in half the time; they run once.
        options = {"compiler_options": {"xla_backend_optimization_level": 0}}
        variables = variables or jax.jit(model.init, **options)(jax.random.key(0), x)
        logits.append(jax.jit(lambda v, x, model=model: model.apply(v, x), **options)(variables, x))
    right, same, wrong = (np.asarray(each) for each in logits)
    assert np.abs(same - right).max() < 1e-4 * np.abs(right).max() < np.abs(wrong - right).max()
