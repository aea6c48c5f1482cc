"""A small network on scikit-learn's 1,797 handwritten digits: no download, under a minute on a
laptop.

    python launch.py --config configs/quickstart.py

Report B's CNN on images enlarged from 8x8 to 28x28 and shifted by up to two pixels, with a recipe
of its own.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.data.source = "digits"
    config.data.name = "digits"
    config.data.transform = "resize(28)|random_crop(2)"

    config.model.name = "cnn"
    config.model.filters = (32, 64, 64)

    config.train.epochs = 20
    config.train.batch_size = 32
    # An accuracy on 144 validation images is too coarse to pick an epoch by.
    config.train.monitor = "loss"

    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 2e-3

    config.schedule.name = "cosine"
    return config
