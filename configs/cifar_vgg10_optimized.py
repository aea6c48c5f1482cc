"""Report E's VGG-10 on CIFAR-10 with early stopping, the plateau schedule and augmentation.

    python launch.py --config configs/cifar_vgg10_optimized.py

The report gives 82.1 % test accuracy at a loss of .5 and a gap of -1.8 points after 50 of 50 epochs (row E4). It does
not say which augmentation: flips and crops are ours. Our figures: results/cifar_progression/table.md.
"""

from ml_collections import ConfigDict

from configs import cifar_vgg10_callbacks


def get_config() -> ConfigDict:
    config = cifar_vgg10_callbacks.get_config()
    config.data.transform = "random_crop(4)|flip"
    return config
