"""From CIFAR-10 to MNIST: what a backbone trained here brings to digits, by method and number of
training images.

    python launch.py --config configs/studies/transfer_cifar_to_mnist.py

The backbone is cifar_fast's, which is trained first if runs/cifar_fast is not there: the same kind
of transfer as from ImageNet in reports A, B, D and E, on weights of our own. Methods: the same
network from scratch; a linear probe on frozen features; low-rank pairs on the first, the middle or
all convolutions, the rest frozen but the classifier; fine-tuning of everything. All see 100, 1,000
or 59,000 training images, the same for every seed, in equally few steps; 1,000 others pick the
epoch. No report has it. Our figures: results/transfer_cifar_to_mnist/table.md.
"""

from ml_collections import ConfigDict

from configs import base, cifar_fast
from configs.studies import base as study

ALL = 59_000
IMAGES = {  # epochs and batch size by the number of training images
    100: (30, 20),
    1_000: (10, 50),
    ALL: (1, 128),
}
HEAD = ("^classifier/",)
LORA = {"adapt.trainable": HEAD, "optimizer.learning_rate": 1e-2}
METHODS = {
    "scratch": {"model.pretrained": None},
    "probe": {"adapt.trainable": HEAD, "optimizer.learning_rate": 0.1},
    "lora_first": LORA | {"adapt.lora.targets": ("^block1_conv./kernel",)},
    "lora_middle": LORA | {"adapt.lora.targets": ("^block2_conv./kernel",)},
    "lora_all": LORA | {"adapt.lora.targets": ("_conv./kernel",)},
    "finetune": {},
}


def row(images: int, options: dict) -> ConfigDict:
    config = base.get_config()
    config.data.validation_size = 1_000
    config.data.train_size = images if images < ALL else 0
    config.data.transform = "rgb|normalize(cifar10)"

    config.model.name = "fast_cnn"
    config.model.filters = cifar_fast.get_config().model.filters
    config.model.pretrained = "runs/cifar_fast"

    config.train.epochs, config.train.batch_size = IMAGES[images]
    config.train.eval_batch_size = 500

    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 1e-3
    config.schedule.name = "cosine"
    config.schedule.warmup_epochs = 0.2 * config.train.epochs
    config.adapt.lora.rank = 8
    config.adapt.lora.alpha = 8.0
    config.update_from_flattened_dict(options)
    return ConfigDict({"config": config})


def get_config() -> ConfigDict:
    config = study.get_config()
    config.name = "transfer_cifar_to_mnist"
    config.title = "From CIFAR-10 to MNIST: methods of transfer by the number of training images"
    config.seeds = (0, 1, 2)
    config.needs = ConfigDict({"cifar_fast": cifar_fast.get_config()})
    for images in IMAGES:
        for number, (method, options) in enumerate(METHODS.items(), 1):
            config.rows[f"{images:05}_{number}_{method}"] = row(images, options)
    return config
