"""Report E's VGG-10 on CIFAR-10 with the augmentation that the report names as a next step: random
crops and flips.

    python launch.py --config configs/cifar_vgg10_crop_flip.py

All else is as in cifar_vgg10_optimized, with which it is compared (row E9). Padding by 4 pixels is
ours. It has not been trained here yet; figures without the last pool:
results/cifar_progression_variants/table.md.
"""

from ml_collections import ConfigDict

from configs import cifar_vgg10_optimized

CROP_FLIP = "random_crop(4)|flip"


def get_config() -> ConfigDict:
    config = cifar_vgg10_optimized.get_config()
    config.data.transform = CROP_FLIP
    return config
