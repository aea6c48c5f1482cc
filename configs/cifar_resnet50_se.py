"""Report D's third level on CIFAR-10: the second one with a squeeze-and-excitation block after the
last stage.

    python launch.py --config configs/cifar_resnet50_se.py

The report gives 94.21 % on validation and 94.55 % on test (row D3).
"""

from ml_collections import ConfigDict

from configs import base, cifar_resnet50_finetune


def get_config() -> ConfigDict:
    config = cifar_resnet50_finetune.get_config()
    config.model = base.get_config().model
    config.model.name = "hybrid"
    config.model.backbones = ("resnet50",)
    config.model.pretrained = "resnet50_v1"
    config.model.se = True

    config.train.epochs = 12

    config.adapt.trainable = ("^resnet50/layer4_", "^se_", "^top/")
    return config
