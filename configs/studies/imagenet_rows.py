"""Every row of the reports that starts from ImageNet weights: A1 to A7, B2, D1 to D4a, D6's
ConvNeXt-Tiny, E6, E7.

    python launch.py --config configs/studies/imagenet_rows.py

The weights are downloaded as they are needed. The reported figures of A2 and D4a are of validation;
of D6, a next step, there are none. No figures of ours yet: the weights have to be fetched, and all
rows together want a GPU.
"""

from ml_collections import ConfigDict

from configs import (
    cifar_convnext_tiny,
    cifar_efficientnetv2_96,
    cifar_efficientnetv2_224,
    cifar_hybrid_lora,
    mnist_resnet50_frozen,
)
from configs.studies import base, cifar_levels, lora_ablation


def get_config() -> ConfigDict:
    config = base.get_config()
    config.name = "imagenet_rows"
    config.title = "Rows of reports A, B, D and E that start from ImageNet weights"
    small_batch = cifar_hybrid_lora.get_config()
    small_batch.train.batch_size = 64
    small_batch.optimizer.learning_rate = 1e-4
    config.rows = ConfigDict(
        {
            **lora_ablation.get_config().rows,
            "a2_cifar_small_batch": {"config": small_batch, "reported": {"accuracy": 87}},
            "a3_cifar": {"config": cifar_hybrid_lora.get_config(), "reported": {"accuracy": 89.36}},
            "b2_mnist_resnet50": {
                "config": mnist_resnet50_frozen.get_config(),
                "reported": {"accuracy": 94.15, "loss": 0.2149, "seconds_per_epoch": 43},
            },
            **cifar_levels.get_config().rows,
            "d6_convnext_tiny": {"config": cifar_convnext_tiny.get_config()},
            "e6_efficientnetv2_96": {
                "config": cifar_efficientnetv2_96.get_config(),
                "reported": {"accuracy": 90.4, "loss": 0.3, "gap": -4.5, "epochs": 60},
            },
            "e7_efficientnetv2_224": {
                "config": cifar_efficientnetv2_224.get_config(),
                "reported": {"accuracy": 94.0, "loss": 0.2, "gap": 0.0, "epochs": 80},
            },
        }
    )
    return config
