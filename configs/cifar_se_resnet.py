"""Report C's SE-ResNet on CIFAR-10, blocks [4, 4, 3] from 64 channels, under five million
parameters: 4,697,742.

    python launch.py --config configs/cifar_se_resnet.py

The report gives 95 % test accuracy after 200 epochs (row C1). It clips gradients at 0.1 and does
not say how: by value is ours. So is the split: 45,000 images train, and 5,000 pick the epoch. On a
GPU add --config.train.precision=bfloat16.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.data.name = "cifar10"
    config.data.transform = "random_crop(4, reflect)|flip|normalize(cifar10)"

    config.model.name = "se_resnet"
    config.model.blocks = (4, 4, 3)
    config.model.width = 64
    config.model.kernels = (3, 3, 3)
    config.model.shortcut_kernels = (1, 1, 1)
    config.model.se = "stem"  # none | stem | blocks
    config.model.dropout = 0.0
    config.model.preact = False
    config.model.max_parameters = 5_000_000

    config.train.epochs = 200
    config.train.batch_size = 128

    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.1
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 5e-4
    config.optimizer.clip_value = 0.1

    config.schedule.name = "cosine"
    return config
