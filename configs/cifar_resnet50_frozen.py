"""Report D's first level on CIFAR-10: a frozen ResNet-50 at 224x224 and a linear layer of 20,490
parameters.

    python launch.py --config configs/cifar_resnet50_frozen.py

The report gives 82.23 % on validation and 82.06 % on test (row D1). Nothing of the features is
trained or random, so they are computed once.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.data.name = "cifar10"
    config.data.validation_size = 10_000
    config.data.transform = "resize(224)|normalize(imagenet)"

    config.model.name = "resnet50"
    config.model.pretrained = "resnet50_v1"

    config.train.epochs = 5
    config.train.batch_size = 64
    config.train.eval_batch_size = 256

    config.adapt.trainable = ("^fc/",)

    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 1e-3
    return config
