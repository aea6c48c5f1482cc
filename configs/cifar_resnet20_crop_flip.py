"""Report E's ResNet-20 on CIFAR-10 with the augmentation that the report names as a next step:
random crops and flips.

    python launch.py --config configs/cifar_resnet20_crop_flip.py

All else is as in cifar_resnet20, with which it is compared (row E9). It has not been trained
here yet; figures of a variant: results/cifar_progression_variants/table.md.
"""

from ml_collections import ConfigDict

from configs import cifar_resnet20
from configs.cifar_vgg10_crop_flip import CROP_FLIP


def get_config() -> ConfigDict:
    config = cifar_resnet20.get_config()
    config.data.transform = CROP_FLIP
    return config
