"""How many of EfficientNetV2-B0's last layers to unfreeze on CIFAR-10 (report E's next steps): 10,
30, 50 or all.

    python launch.py --config configs/studies/cifar_unfreezing.py

What report E names as a next step beside stronger augmentation (row E9). Each row is
cifar_efficientnetv2_96 with another depth in its second phase; all but the depth is the same. Keras
counts 270 layers. No figure of ours yet: the weights have to be fetched, and all rows together want
a GPU; cifar_unfreezing_small is what fits two CPU cores.
"""

from ml_collections import ConfigDict

from configs import cifar_efficientnetv2_96
from configs.studies import base

ALL = 270
DEPTHS = (10, 30, 50, ALL)


def rows(config: ConfigDict) -> ConfigDict:
    """A row of the config for each depth."""
    found = ConfigDict()
    for number, depth in enumerate(DEPTHS, 1):
        row = config.copy_and_resolve_references()
        row.adapt.phases.phase2.adapt.last_layers = depth
        found[f"{number}_last_{'all' if depth == ALL else depth}"] = ConfigDict({"config": row})
    return found


def get_config() -> ConfigDict:
    config = base.get_config()
    config.name = "cifar_unfreezing"
    config.title = "Report E: how many layers of EfficientNetV2-B0 to unfreeze"
    config.rows = rows(cifar_efficientnetv2_96.get_config())
    return config
