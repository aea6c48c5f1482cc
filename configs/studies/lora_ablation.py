"""Report A's ablations on MNIST: where the low-rank pairs are, and projection layers or none (rows
A1, A4 to A7).

    python launch.py --config configs/studies/lora_ablation.py

The report does not say which layers are the middle ones: ours are ResNet-18's second and third
stage and GoogLeNet's fourth.
"""

from ml_collections import ConfigDict

from configs import mnist_hybrid_lora
from configs.studies import base

FIRST = ("^resnet18/conv1/kernel", "^googlenet/conv1/.*kernel")
MIDDLE = ("^resnet18/layer[23]_./conv[12]/kernel", "^googlenet/inception4./.*kernel")


def row(reported: float, **options) -> ConfigDict:
    config = mnist_hybrid_lora.get_config()
    config.update_from_flattened_dict(options)
    return ConfigDict({"config": config, "reported": {"accuracy": reported}})


def get_config() -> ConfigDict:
    config = base.get_config()
    config.name = "lora_ablation"
    config.title = "Report A: ablations of the hybrid with LoRA on MNIST"
    config.rows = ConfigDict(
        {
            "a1_base": row(98.56),
            "a4_no_lora": row(95.09, **{"adapt.lora.targets": ()}),
            "a5_first_layers": row(98.14, **{"adapt.lora.targets": FIRST}),
            "a6_middle_layers": row(97.67, **{"adapt.lora.targets": MIDDLE}),
            "a7_no_projection": row(
                97.89, **{"model.projection": 0, "adapt.trainable": ("^top/",)}
            ),
        }
    )
    return config
