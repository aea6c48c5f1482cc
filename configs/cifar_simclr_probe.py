"""A linear probe on the features of cifar_simclr: the backbone frozen, its features computed once
(row B8).

    python launch.py --config configs/cifar_simclr.py
    python launch.py --config configs/cifar_simclr_probe.py

Only the classifier trains, 650 parameters for ResNet-20. Ours:
results/cifar_simclr_probe/test.json, after 20 epochs of cifar_simclr; beside it
results/cifar_random_probe, the same on features of random weights (--config.model.pretrained=""
--config.name=cifar_random_probe).
"""

from ml_collections import ConfigDict

from configs import cifar_simclr


def get_config() -> ConfigDict:
    config = cifar_simclr.get_config()
    config.data.transform = "normalize(cifar10)"
    config.model.pretrained = "runs/cifar_simclr"
    config.adapt.trainable = ("^classifier/",)

    config.objective = ConfigDict()
    config.train.epochs = 50
    config.train.monitor = "accuracy"
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 1e-2
    config.optimizer.weight_decay = 0.0
    return config
