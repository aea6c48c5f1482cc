"""Report B's tuning of the CNN on MNIST: 5 or 10 epochs (row B5), fewer or more filters (row B6).

    python launch.py --config configs/studies/mnist_cnn_tuning.py

The table, beside the reported figures: results/mnist_cnn_tuning/table.md.
"""

from ml_collections import ConfigDict

from configs import mnist_cnn
from configs.studies import base


def _cnn(*, epochs: int = 10, filters: tuple[int, int, int] = (32, 64, 64)) -> ConfigDict:
    config = mnist_cnn.get_config()
    config.train.epochs = epochs
    config.model.filters = filters
    return config


def get_config() -> ConfigDict:
    config = base.get_config()
    config.name = "mnist_cnn_tuning"
    config.title = "Report B: epochs and filters of the CNN on MNIST"
    config.seeds = (0, 1, 2)
    config.rows = ConfigDict(
        {
            "epochs_5": {"config": _cnn(epochs=5), "reported": {"accuracy": 99.18}},
            "epochs_10": {"config": _cnn(), "reported": {"accuracy": 99.22}},
            "filters_16_32_32": {
                "config": _cnn(filters=(16, 32, 32)),
                "reported": {"accuracy": 99.08, "loss": 0.0397},
            },
            "filters_64_128_128": {
                "config": _cnn(filters=(64, 128, 128)),
                "reported": {"accuracy": 99.22, "loss": 0.0330},
            },
        }
    )
    return config
