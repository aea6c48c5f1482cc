"""Rows of the reports that start from weights of torchvision or Keras, which are downloaded as they
are needed: A1 to A7, B2, D1 to D4a, and D6's ConvNeXt-Tiny.

    python launch.py --config configs/studies/imagenet_rows.py

For A2 and D4a the report gives validation accuracies alone, and for D6, a next step, nothing. All
rows together want a GPU.
"""

from ml_collections import ConfigDict

from configs import (
    cifar_convnext_tiny,
    cifar_hybrid_lora,
    mnist_resnet50_frozen,
)
from configs.studies import base, cifar_levels, lora_ablation


def get_config() -> ConfigDict:
    config = base.get_config()
    config.name = "imagenet_rows"
    config.title = "Rows of reports A, B and D that start from ImageNet weights"
    small_batch = cifar_hybrid_lora.get_config()
    small_batch.train.batch_size = 64
    small_batch.optimizer.learning_rate = 1e-4
    config.rows = ConfigDict(
        {
            **lora_ablation.get_config().rows,
            "a2_cifar_small_batch": {"config": small_batch},
            "a3_cifar": {"config": cifar_hybrid_lora.get_config(), "reported": {"accuracy": 89.36}},
            "b2_mnist_resnet50": {
                "config": mnist_resnet50_frozen.get_config(),
                "reported": {"accuracy": 94.15, "loss": 0.2149, "seconds_per_epoch": 43},
            },
            **cifar_levels.get_config().rows,
            "d6_convnext_tiny": {"config": cifar_convnext_tiny.get_config()},
        }
    )
    return config
