"""Report E's EfficientNetV2-B0 on CIFAR-10 at 96x96: first the new head trains, then the backbone's
last 30 layers too.

    python launch.py --config configs/cifar_efficientnetv2_96.py

The report gives 6.26 M parameters, 334 K of which train at first, and 90.4 % on test at a loss of
0.3 and a gap of -4.5 points after 30 + 30 epochs (row E6). Dropout, rates and the augmentation, the
mild one of cifar_vgg10_optimized, are ours.
"""

from ml_collections import ConfigDict

from configs import base
from configs.cifar_vgg10_optimized import MILD


def get_config() -> ConfigDict:
    config = base.get_config()
    config.data.name = "cifar10"
    config.data.transform = f"{MILD}|resize(96)|normalize(imagenet)"

    config.model.name = "hybrid"
    config.model.backbones = ("efficientnetv2_b0",)
    config.model.pretrained = "efficientnetv2_b0_keras_notop"
    config.model.head_kind = "normalized"
    config.model.hidden = 256
    config.model.dropout = 0.3

    config.train.batch_size = 64
    config.train.eval_batch_size = 256

    config.optimizer.name = "adam"
    config.optimizer.eps = 1e-7  # Keras'

    config.schedule.name = "plateau"
    config.schedule.factor = 0.5
    config.schedule.patience = 3

    config.adapt.trainable = ("^top/",)
    config.adapt.phases = ConfigDict(
        {
            "phase1": {
                "train": {"epochs": 30, "early_stopping": 10},
                "optimizer": {"learning_rate": 1e-3},
            },
            "phase2": {
                "train": {"epochs": 30, "early_stopping": 10},
                "optimizer": {"learning_rate": 1e-4},
                "adapt": {"last_layers": 30},
            },
        }
    )
    return config
