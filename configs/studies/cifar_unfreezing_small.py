"""cifar_unfreezing for two CPU cores: 5,000 training images, 4 + 4 epochs.

    python launch.py --config configs/studies/cifar_unfreezing_small.py --config.weights=EFFICIENTNETV2_B0_FILE

Without augmentation the features of the first phase, which is the same in all rows, are computed
once and kept for the other rows.
"""

from ml_collections import ConfigDict

from configs import cifar_efficientnetv2_96
from configs.studies import base, cifar_unfreezing


def get_config() -> ConfigDict:
    config = base.get_config()
    config.name = "cifar_unfreezing_small"
    config.title = "How many layers of EfficientNetV2-B0 to unfreeze: 5,000 images, 4 + 4 epochs"
    row = cifar_efficientnetv2_96.get_config()
    row.data.train_size = 5_000
    row.data.transform = "resize(96)|normalize(imagenet)"
    for phase in row.adapt.phases.values():
        phase.train.epochs = 4
    cifar_unfreezing.set_rows(config, row)
    return config
