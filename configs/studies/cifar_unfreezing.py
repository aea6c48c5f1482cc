"""How many of EfficientNetV2-B0's last layers to unfreeze on CIFAR-10 (report E's next steps): 10,
30, 50 or all.

    python launch.py --config configs/studies/cifar_unfreezing.py --config.weights=EFFICIENTNETV2_B0_FILE

What report E names as a next step beside stronger augmentation (row E9). Each row is
cifar_efficientnetv2_96 with another depth in its second phase; all but the depth is the same. Keras
counts 270 layers. EFFICIENTNETV2_B0_FILE is Keras' file without its top; if it is left out, it is
downloaded. All rows together want a GPU; cifar_unfreezing_small is what fits two CPU cores.
"""

from ml_collections import ConfigDict

from configs import cifar_efficientnetv2_96
from configs.studies import base

ALL = 270
DEPTHS = (10, 30, 50, ALL)


def set_rows(study: ConfigDict, config: ConfigDict) -> None:
    """Gives the study a row of the config for each depth, and the option `weights`."""
    study.weights = config.model.pretrained  # a name of `imgcls weights list`, or a file
    for number, depth in enumerate(DEPTHS, 1):
        row = config.copy_and_resolve_references()
        row.model.pretrained = study.get_ref("weights")
        row.adapt.phases.phase2.adapt.last_layers = depth
        label = f"{number}_last_{depth}"
        if depth == ALL:
            label = f"{number}_last_all"
        study.rows[label] = ConfigDict({"config": row})


def get_config() -> ConfigDict:
    config = base.get_config()
    config.name = "cifar_unfreezing"
    config.title = "Report E: how many layers of EfficientNetV2-B0 to unfreeze"
    set_rows(config, cifar_efficientnetv2_96.get_config())
    return config
