"""What the options of report C's SE-ResNet are worth on CIFAR-10: squeeze-and-excitation, dropout,
pre-activation.

    python launch.py --config configs/studies/se_resnet_ablations.py

The report gives no figures for them. Five rows of 200 epochs are work for a GPU.
"""

from ml_collections import ConfigDict

from configs import cifar_se_resnet
from configs.studies import base

ROWS = {
    "as_reported": {},
    "without_se": {"se": "none"},
    "se_in_every_block": {"se": "blocks"},
    "dropout": {"dropout": 0.1},
    "preact": {"preact": True},
}


def get_config() -> ConfigDict:
    config = base.get_config()
    config.name = "se_resnet_ablations"
    config.title = "Ablations of report C's SE-ResNet on CIFAR-10"
    for label, options in ROWS.items():
        row = cifar_se_resnet.get_config()
        row.model.update(options)
        config.rows[label] = ConfigDict({"config": row})
    return config
