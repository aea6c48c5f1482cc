"""Report D's ensemble on CIFAR-10 (D4b): soft voting, half each, of ResNet-50 with an SE block and
EfficientNet-B0.

    python launch.py --config configs/cifar_ensemble.py

Trains the members first, if their runs/NAME are not there. Reported test accuracy 95.11 %.
"""

from ml_collections import ConfigDict

from configs import cifar_efficientnet_b0, cifar_resnet50_se


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.name = ""
    config.members = ConfigDict(
        {
            "cifar_resnet50_se": cifar_resnet50_se.get_config(),
            "cifar_efficientnet_b0": cifar_efficientnet_b0.get_config(),
        }
    )
    config.weights = "equal"  # or fitted, greedy, confidence, stacked, or figures such as "2,1"
    return config
