"""Our shortest recipe to 94 % on CIFAR-10, in the spirit of airbench94 (Jordan, 2024,
arXiv:2404.00498).

    python launch.py --config configs/cifar_fast.py

A whitening first layer, wide blocks, large batches, flips that alternate from epoch to epoch, a
running average of the weights, and a mean over views of each test image. No report has it. Our
figures: results/README.md.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.data.name = "cifar10"
    config.data.validation_size = 1000  # it picks the epoch, which is the last or near it
    config.data.transform = "random_crop(2, reflect)|alternating_flip|normalize(cifar10)"

    config.model.name = "fast_cnn"
    config.model.filters = (64, 256, 256)

    config.train.epochs = 16
    config.train.batch_size = 1024
    config.train.eval_batch_size = 500
    config.train.label_smoothing = 0.2
    config.train.ema_decay = 0.98
    config.train.tta = "flip_shift"

    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 1.5
    config.optimizer.momentum = 0.85
    config.optimizer.nesterov = True
    config.optimizer.weight_decay = 1.3e-3
    config.optimizer.decay_vectors = False
    config.optimizer.multipliers = (("bn.*/bias", 64.0),)

    config.schedule.name = "linear"
    config.schedule.warmup_epochs = 3.5
    config.schedule.end_factor = 0.05
    return config
