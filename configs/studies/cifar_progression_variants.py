"""Variants of the rows E2 to E5 and E9: VGG-10 without its last max pool, and ResNet-20 without
Keras' defaults.

    python launch.py --config configs/studies/cifar_progression_variants.py

What configs/studies/cifar_progression.py trains differs in these options alone: model.last_pool of
VGG-10, and model.keras_defaults of ResNet-20. Augmentation is by crops and flips. The table:
results/cifar_progression_variants/table.md.
"""

from ml_collections import ConfigDict

from configs import (
    cifar_resnet20_crop_flip,
    cifar_vgg10_base,
    cifar_vgg10_callbacks,
    cifar_vgg10_crop_flip,
)
from configs.studies import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.name = "cifar_progression_variants"
    config.title = (
        "VGG-10 without a last max pool, and ResNet-20 without Keras' defaults, on CIFAR-10"
    )
    for label, module, option in (
        ("2_vgg10_base", cifar_vgg10_base, "last_pool"),
        ("3_vgg10_callbacks", cifar_vgg10_callbacks, "last_pool"),
        ("4_vgg10_optimized", cifar_vgg10_crop_flip, "last_pool"),
        ("5_resnet20", cifar_resnet20_crop_flip, "keras_defaults"),
    ):
        row = module.get_config()
        row.model[option] = False
        config.rows[label] = ConfigDict({"config": row})
    return config
