"""Report E's ResNet-20 on CIFAR-10, with convolutions as shortcuts: 274,826 parameters with batch
statistics.

    python launch.py --config configs/cifar_resnet20.py

The report gives 275 K parameters, and 87.7 % test accuracy at a loss of 0.4 and a gap of 3.1
points, stopped after 114 of 200 epochs (row E5): early stopping, the plateau schedule and
augmentation as in cifar_vgg10_optimized, no dropout. Its code is Keras', and so are initial
weights, BatchNorm's momentum and epsilon, and padding here; the batch size is ours. One seed stops
after 46 epochs, by the patiences of cifar_vgg10_callbacks, with 85.94 % and a gap of 6.6 points
(results/cifar_progression/table.md). With He's initial weights, torch's BatchNorm and padding, on
crops and flips: results/cifar_progression_variants/table.md.
"""

from ml_collections import ConfigDict

from configs import base, cifar_vgg10_optimized


def get_config() -> ConfigDict:
    config = cifar_vgg10_optimized.get_config()
    config.model = base.get_config().model
    config.model.name = "resnet20"
    config.model.keras_defaults = True

    config.train.epochs = 200
    config.train.batch_size = 128
    return config
