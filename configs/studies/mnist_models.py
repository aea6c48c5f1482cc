"""Report B's comparison on MNIST: a CNN, an LSTM and a self-attention layer, three seeds each (rows
B1, B3, B4).

    python launch.py --config configs/studies/mnist_models.py

The table, beside the reported figures: results/mnist_models/table.md. The report's frozen ResNet-50
(row B2) needs ImageNet weights, and is a row of imagenet_rows.py.
"""

from ml_collections import ConfigDict

from configs import mnist_attention, mnist_cnn, mnist_lstm
from configs.studies import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.name = "mnist_models"
    config.title = "Report B: three models on MNIST"
    config.seeds = (0, 1, 2)
    config.rows = ConfigDict(
        {
            "cnn": {
                "config": mnist_cnn.get_config(),
                "reported": {"accuracy": 99.03, "loss": 0.051, "seconds_per_epoch": 9.0},
            },
            "lstm": {
                "config": mnist_lstm.get_config(),
                "reported": {"accuracy": 98.37, "loss": 0.064, "seconds_per_epoch": 4.0},
            },
            "attention": {
                "config": mnist_attention.get_config(),
                "reported": {"accuracy": 97.64, "loss": 0.093, "seconds_per_epoch": 3.0},
            },
        }
    )
    return config
