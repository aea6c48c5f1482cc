"""What is trained: the same architecture, optimizer, batch size and shape of data for every contestant."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

ADAM = {"name": "adam", "learning_rate": 1e-3, "eps": 1e-7}
SE_RESNET = {
    "name": "momentum",
    "learning_rate": 0.01,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "clip_value": 0.1,
}  # report C's optimizer; its rate would follow a schedule, which the comparison leaves out


EVERYTHING, NOTHING = "everything", "nothing"


@dataclasses.dataclass(frozen=True)
class Task:
    """One row of the table.

    image: shape [H, W, C] of the data it stands for; optimizer: options of config.optimizer in configs/base.py.
    model: a name of imgcls_jax.models.MODELS; trains: what of it trains, a pattern of the paths of parameters, whose
    parts are separated by "/", "_" or "." in the libraries; NOTHING is prediction, the forward pass in evaluation.
    """

    model: str
    image: tuple[int, int, int]
    batch_size: int
    optimizer: Mapping[str, Any]
    examples: int = 50_000
    classes: int = 10
    trains: str = EVERYTHING

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Synthetic images uint8 [N, H, W, C] and labels int32 [N]: noise, whose values do not change the timing."""
        random = np.random.default_rng(0)
        images = random.integers(0, 256, (self.examples, *self.image), dtype=np.uint8)
        return images, random.integers(0, self.classes, self.examples, dtype=np.int32)


MNIST, CIFAR, PHOTO = (28, 28, 1), (32, 32, 3), (96, 96, 3)
TASKS: dict[str, Task] = {
    "cnn": Task("cnn", MNIST, 64, ADAM),
    "lstm": Task("lstm", MNIST, 128, ADAM),
    "attention": Task("attention", MNIST, 128, ADAM),
    "cifar_cnn": Task("cnn", CIFAR, 64, ADAM),
    "vgg": Task("vgg", CIFAR, 64, ADAM),
    "resnet20": Task("resnet20", CIFAR, 128, ADAM),
    "se_resnet": Task("se_resnet", CIFAR, 128, SE_RESNET),
}

# The last stage, and the classifier, of the architectures with ImageNet weights.
BACKBONES = {
    "efficientnet_b0": ("^features.[78]|^classifier", "^classifier"),
    "efficientnetv2_b0": ("^block6|^top|^predictions", "^predictions"),
    "convnext_tiny": ("^features.7|^classifier", "^classifier"),
    "googlenet": ("^inception5|^fc", "^fc"),
    "resnet18": ("^layer4|^fc", "^fc"),
    "resnet50": ("^layer4|^fc", "^fc"),
}
for _model, (_stage, _head) in BACKBONES.items():
    parts = {"": EVERYTHING, "_last_stage": _stage, "_head": _head, "_predict": NOTHING}
    for _suffix, _trains in parts.items():
        TASKS[_model + _suffix] = Task(_model, PHOTO, 32, ADAM, examples=2_048, trains=_trains)
TASKS["se_resnet_predict"] = Task(
    "se_resnet", CIFAR, 128, SE_RESNET, examples=2_048, trains=NOTHING
)
TASKS["resnet20_predict"] = Task("resnet20", CIFAR, 128, ADAM, examples=2_048, trains=NOTHING)
