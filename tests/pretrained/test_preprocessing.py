"""Warnings where weights get other images than those of their training."""

import logging

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from ml_collections import ConfigDict

from configs.studies import lora_ablation_imagenet
from imgcls_jax import models
from imgcls_jax.data.transforms import parse
from imgcls_jax.pretrained import transform_check

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
LITE0 = {"name": "efficientnet_lite0", "pretrained": "efficientnet_lite0"}


def warning(caplog, model, transform, image_size=0) -> str:
    data = {"transform": transform, "image_size": image_size}
    with caplog.at_level(logging.WARNING):
        transform_check.warn_of_differences(ConfigDict({"model": model, "data": data}))
    return caplog.text


@pytest.mark.parametrize(
    ("transform", "image_size"),
    [
        ("rgb|resize(256, bicubic)|center_crop(224)|normalize(lite)", 0),
        ("flip|random_crop(16)|resize(224)|normalize(lite)", 0),
        ("normalize(lite)", 224),
    ],
)
def test_no_warning_of_the_same_size_and_values(caplog, transform, image_size):
    assert warning(caplog, LITE0, transform, image_size) == ""


@pytest.mark.parametrize(
    ("transform", "image_size", "words"),
    [
        ("resize(160)|normalize(lite)", 0, "of 224x224 pixels through 'rgb|"),
        ("normalize(lite)", 160, "data.transform is 'normalize(lite)' of 160x160 pixels"),
        (
            "resize(224)|normalize(imagenet)",
            0,
            "center_crop(224)|normalize(lite)'; data.transform is 'resize(224)",
        ),
        ("normalize(lite)", 0, "of 224x224 pixels"),  # the images' own size is not known
    ],
)
def test_a_warning_gives_both_sizes_and_transforms(caplog, transform, image_size, words):
    assert words in warning(caplog, LITE0, transform, image_size)


def test_each_backbone_of_a_hybrid_is_checked(caplog):
    config = lora_ablation_imagenet.get_config().rows.first.config.copy_and_resolve_references()
    config.data.transform = "resize(224)|normalize(imagenet)"
    assert warning(caplog, config.model, config.data.transform) == ""
    config.model.options.efficientnet_lite0.transform_input = False
    text = warning(caplog, config.model, config.data.transform)
    assert "The weights efficientnet_lite0 were trained on" in text


class Called(Exception):
    """Carries the input with which a layer was called."""


def stem_input(options, transform: str):
    """What the first layer of Lite0 gets for IMAGES."""

    def stop_at_stem(call, args, keywords, context):
        if context.module.name == "stem":
            raise Called(args[0])
        return call(*args, **keywords)

    model = models.create(ConfigDict({"name": "efficientnet_lite0", **options}), num_classes=3)
    x = parse(transform)(jnp.asarray(IMAGES))
    with nn.intercept_methods(stop_at_stem), pytest.raises(Called) as called:
        model.apply({"params": {}}, x, method="features")
    (stem_x,) = called.value.args
    return np.asarray(stem_x)


def test_transform_input_of_lite0_takes_images_normalised_by_imagenet():
    expected = (IMAGES.astype(np.float64) - 127) / 128

    def error(options, transform):
        return np.abs(stem_input(options, transform) - expected).max()

    assert error({}, "normalize(lite)") < 1e-6
    assert error({"transform_input": True}, "normalize(imagenet)") < 1e-6
    assert error({}, "normalize(imagenet)") > 1e-6
