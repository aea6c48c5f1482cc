"""Report E's EfficientNetV2-B0 on CIFAR-10 at 224x224: first the new head trains, then the last 50
layers too.

    python launch.py --config configs/cifar_efficientnetv2_224.py

The report gives 94.0 % on test at a loss of 0.2 and no gap after 40 + 40 epochs (row E7). All else
is as in cifar_efficientnetv2_96.
"""

from ml_collections import ConfigDict

from configs import cifar_efficientnetv2_96
from configs.cifar_vgg10_optimized import MILD


def get_config() -> ConfigDict:
    config = cifar_efficientnetv2_96.get_config()
    config.data.transform = f"{MILD}|resize(224)|normalize(imagenet)"

    for phase in config.adapt.phases.values():
        phase.train.epochs = 40
    config.adapt.phases.phase2.adapt.last_layers = 50
    return config
