"""The third ensemble member that report D names as a next step on CIFAR-10: ConvNeXt-Tiny, all of
it trained.

    python launch.py --config configs/cifar_convnext_tiny.py

The report has no figure and no recipe for it (row D6): that of its ResNet-50 is taken, with a third
of its rate after half an epoch of warm-up, since all layers train (ours). Like the other members it
sees whole images at 224x224, while its weights were trained on the middle 224 of 236 pixels.
"""

from ml_collections import ConfigDict

from configs import cifar_resnet50_finetune


def get_config() -> ConfigDict:
    config = cifar_resnet50_finetune.get_config()
    config.model.name = "convnext_tiny"
    config.model.pretrained = "convnext_tiny_v1"

    config.adapt.trainable = ()

    config.optimizer.learning_rate = 1e-4

    config.schedule.warmup_epochs = 0.5
    return config
