"""Report A's ablations on CIFAR-10, which it names as a next step (row A10): the rows of
lora_ablation.

    python launch.py --config configs/studies/lora_ablation_cifar.py

By the recipe of cifar_hybrid_lora. The report has no figures of these.
"""

from ml_collections import ConfigDict

from configs import cifar_hybrid_lora
from configs.studies import base
from configs.studies.lora_ablation import FIRST, MIDDLE

ROWS = {
    "1_base": {},
    "2_no_lora": {"adapt.lora.targets": ()},
    "3_first_layers": {"adapt.lora.targets": FIRST},
    "4_middle_layers": {"adapt.lora.targets": MIDDLE},
    "5_no_projection": {"model.projection": 0, "adapt.trainable": ("^top/",)},
}


def get_config() -> ConfigDict:
    config = base.get_config()
    config.name = "lora_ablation_cifar"
    config.title = "Report A: ablations of the hybrid with LoRA on CIFAR-10"
    for label, options in ROWS.items():
        row = cifar_hybrid_lora.get_config()
        row.update_from_flattened_dict(options)
        config.rows[label] = ConfigDict({"config": row})
    return config
