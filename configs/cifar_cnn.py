"""Report E's five-layer CNN on CIFAR-10: three convolutions, two dense layers, dropout of 0.2:
316,458 parameters.

    python launch.py --config configs/cifar_cnn.py

The report gives 316 K parameters and, after 10 epochs, 67.5 % test accuracy at a loss of 1.1 and a
gap of 17.8 points between training and test (row E1). It does not give the widths, the batch size
or the optimizer: these are ours. Our figures: results/cifar_cnn_gap/table.md.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.data.name = "cifar10"

    config.model.name = "cnn"
    config.model.filters = (24, 64, 64)
    config.model.hidden = 256
    config.model.dropout = 0.2

    config.train.epochs = 10
    config.train.batch_size = 64
    config.train.cpu_devices = 2

    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.eps = 1e-7  # Keras'
    return config
