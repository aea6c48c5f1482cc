"""What report A names as next for its hybrid on MNIST (row A10): other parts that train, other
fusions, drawn digits.

    python launch.py --config configs/studies/hybrid_next_steps.py

Beside mnist_hybrid_lora: partial fine-tuning of each backbone's last stage instead of low-rank
pairs; the two projections fused by weights that the model learns for each image, or by attention
over them; and 500 drawn images of each digit added to the training images. The report has no
figures of these.
"""

from ml_collections import ConfigDict

from configs import mnist_hybrid_lora
from configs.studies import base

HEAD = ("^projection_", "^fuse/", "^top/")
ROWS = {
    "1_lora": {},
    "2_partial_finetuning": {
        "adapt.lora.targets": (),
        "adapt.trainable": ("^projection_", "^top/", "^resnet18/layer4_", "^googlenet/inception5"),
    },
    "3_adaptive_fusion": {"model.fusion": "adaptive", "adapt.trainable": HEAD},
    "4_attention": {"model.fusion": "attention", "adapt.trainable": HEAD},
    "5_drawn_digits": {"data.drawn": 500},
}


def get_config() -> ConfigDict:
    config = base.get_config()
    config.name = "hybrid_next_steps"
    config.title = (
        "Report A's next steps: partial fine-tuning, adaptive fusion, attention, drawn digits"
    )
    for label, options in ROWS.items():
        row = mnist_hybrid_lora.get_config()
        if "model.fusion" in options:
            row.model.fusion = "concatenated"
        row.update_from_flattened_dict(options)
        config.rows[label] = ConfigDict({"config": row})
    return config
