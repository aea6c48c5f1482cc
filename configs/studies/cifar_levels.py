"""Report D's levels on CIFAR-10: ResNet-50 frozen, fine-tuned, with an SE block; EfficientNet-B0
(rows D1 to D4a).

    python launch.py --config configs/studies/cifar_levels.py

For D4a the report gives a validation accuracy alone.
"""

from ml_collections import ConfigDict

from configs import (
    cifar_efficientnet_b0,
    cifar_resnet50_finetune,
    cifar_resnet50_frozen,
    cifar_resnet50_se,
)
from configs.studies import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.name = "cifar_levels"
    config.title = "Report D: levels of transfer on CIFAR-10"
    config.rows = ConfigDict(
        {
            "d1_frozen": {
                "config": cifar_resnet50_frozen.get_config(),
                "reported": {"accuracy": 82.06},
            },
            "d2_finetune": {
                "config": cifar_resnet50_finetune.get_config(),
                "reported": {"accuracy": 94.64},
            },
            "d3_se": {"config": cifar_resnet50_se.get_config(), "reported": {"accuracy": 94.55}},
            "d4a_efficientnet_b0": {"config": cifar_efficientnet_b0.get_config()},
        }
    )
    return config
