"""Report E's progression on CIFAR-10: a five-layer CNN, VGG-10 in three recipes, ResNet-20 (rows E1
to E5), and the last two with the augmentation that the report names as a next step (E9).

    python launch.py --config configs/studies/cifar_progression.py

Each with three seeds, hours on two CPU cores; --config.seeds="(0,)" trains one. The table, beside
the reported figures, has what is trained of the first five rows: results/cifar_progression/table.md.
Its runs were trained beside each other or beside other work, and some were stopped in between: their
times are no speeds.
"""

from ml_collections import ConfigDict

from configs import (
    cifar_cnn,
    cifar_resnet20,
    cifar_resnet20_crop_flip,
    cifar_vgg10_base,
    cifar_vgg10_callbacks,
    cifar_vgg10_crop_flip,
    cifar_vgg10_optimized,
)
from configs.studies import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.name = "cifar_progression"
    config.title = "Report E: from a small CNN to ResNet-20 on CIFAR-10"
    config.seeds = (0, 1, 2)
    config.rows = ConfigDict(
        {
            "1_cnn": {
                "config": cifar_cnn.get_config(),
                "reported": {"accuracy": 67.5, "loss": 1.1, "gap": 17.8, "epochs": 10},
            },
            "2_vgg10_base": {
                "config": cifar_vgg10_base.get_config(),
                "reported": {"accuracy": 78.6, "loss": 0.6, "gap": 2.8, "epochs": 20},
            },
            "3_vgg10_callbacks": {
                "config": cifar_vgg10_callbacks.get_config(),
                "reported": {"accuracy": 80.5, "loss": 0.6, "gap": 7.4, "epochs": 25},
            },
            "4_vgg10_optimized": {
                "config": cifar_vgg10_optimized.get_config(),
                "reported": {"accuracy": 82.1, "loss": 0.5, "gap": -1.8, "epochs": 50},
            },
            "5_resnet20": {
                "config": cifar_resnet20.get_config(),
                "reported": {"accuracy": 87.7, "loss": 0.4, "gap": 3.1, "epochs": 114},
            },
            "6_vgg10_crop_flip": {"config": cifar_vgg10_crop_flip.get_config()},
            "7_resnet20_crop_flip": {"config": cifar_resnet20_crop_flip.get_config()},
        }
    )
    return config
