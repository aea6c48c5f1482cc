"""Row C3 for a CPU: the optimizers and schedules of se_resnet_optimizers, on fewer images and
epochs.

    python launch.py --config configs/studies/se_resnet_optimizers_small.py

Eight rows of 6 epochs over 4,000 images: 74 minutes on two shared CPU cores. What is best for so
few steps says little about the 200 epochs of the report.
"""

from ml_collections import ConfigDict

from configs.studies import se_resnet_optimizers


def get_config() -> ConfigDict:
    config = se_resnet_optimizers.get_config()
    config.name = "se_resnet_optimizers_small"
    config.title = (
        "Optimizers and schedules for report C's SE-ResNet: 4,000 images of CIFAR-10, 6 epochs"
    )
    for row in config.rows.values():
        row.config.data.train_size = 4_000
        row.config.data.validation_size = 1_000
        row.config.train.epochs = 6
    return config
