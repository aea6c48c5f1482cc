"""A small network on scikit-learn's 1,797 handwritten digits: no download, under a minute on a laptop.

python launch.py --config configs/quickstart.py
"""

from ml_collections import ConfigDict

from configs import mnist_cnn


def get_config() -> ConfigDict:
    config = mnist_cnn.get_config()
    config.data.source = "digits"
    config.data.name = "digits"
    config.data.transform = "resize(28)"

    config.train.epochs = 15
    config.train.early_stopping = 5
    return config
