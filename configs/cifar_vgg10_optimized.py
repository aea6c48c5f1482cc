"""Report E's VGG-10 on CIFAR-10 with early stopping, the plateau schedule and augmentation.

    python launch.py --config configs/cifar_vgg10_optimized.py

The report gives 82.1 % test accuracy at a loss of 0.5 and a gap of -1.8 points after 50 of 50
epochs (row E4). It does not say which augmentation, but names crops and flips as a next, stronger
one. So the one here is mild, and ours: rotations up to 15 degrees, shifts up to a tenth of the
side, zooms up to a tenth, filled with the nearest pixel, as is usual with Keras.
cifar_vgg10_crop_flip is the next step. One seed reaches 80.94 % with a gap of 0.6 points: no better
than without augmentation (results/cifar_progression/table.md).
"""

from ml_collections import ConfigDict

from configs import cifar_vgg10_callbacks

MILD = "affine(15, .1, .9, 1.1, fill=nearest)"


def get_config() -> ConfigDict:
    config = cifar_vgg10_callbacks.get_config()
    config.data.transform = MILD
    return config
