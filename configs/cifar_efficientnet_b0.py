"""Report D's second ensemble member on CIFAR-10: EfficientNet-B0, all of it trained.

    python launch.py --config configs/cifar_efficientnet_b0.py

The report gives 89.72 % on validation after 10 epochs (row D4a), and no recipe: that of its
ResNet-50 is taken.
"""

from ml_collections import ConfigDict

from configs import cifar_resnet50_finetune


def get_config() -> ConfigDict:
    config = cifar_resnet50_finetune.get_config()
    config.model.name = "efficientnet_b0"
    config.model.pretrained = "efficientnet_b0_v1"

    config.adapt.trainable = ()
    return config
