"""What is trained: for every contestant the same architecture, optimizer, batch size and shape."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

ADAM = {"name": "adam", "learning_rate": 1e-3, "eps": 1e-7}
# Report C's optimizer. Its learning rate would follow a schedule, which the comparison leaves out.
SE_RESNET = {
    "name": "sgd",
    "learning_rate": 0.01,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "clip_value": 0.1,
}

EVERYTHING = "everything"
NOTHING = "nothing"

MNIST = (28, 28, 1)
CIFAR = (32, 32, 3)
PHOTO = (96, 96, 3)


@dataclasses.dataclass(frozen=True)
class Task:
    """One row of the table.

    model: a name in imgcls_jax.models.MODELS.
    image: shape [H, W, C] of the data that it stands for.
    optimizer: options of config.optimizer in configs/base.py.
    trains: what trains: EVERYTHING, NOTHING (prediction: the forward pass in evaluation mode), or a
      regular expression of parameter paths. The libraries separate the parts of a path by "/",
      "_" or ".", so "." stands for all of them.
    """

    model: str
    image: tuple[int, int, int]
    batch_size: int
    optimizer: Mapping[str, Any]
    examples: int = 50_000
    classes: int = 10
    trains: str = EVERYTHING

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns synthetic images uint8 [N, H, W, C] and labels int32 [N].

        The images are noise: the values do not change the timing.
        """
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (self.examples, *self.image), dtype=np.uint8)
        labels = rng.integers(0, self.classes, self.examples, dtype=np.int32)
        return images, labels


# The architectures with ImageNet weights: patterns of their last stage and of their classifier.
BACKBONES = {
    "efficientnet_b0": ("^features.[78]|^classifier", "^classifier"),
    "efficientnetv2_b0": ("^block6|^top|^predictions", "^predictions"),
    "convnext_tiny": ("^features.7|^classifier", "^classifier"),
    "googlenet": ("^inception5|^fc", "^fc"),
    "resnet18": ("^layer4|^fc", "^fc"),
    "resnet50": ("^layer4|^fc", "^fc"),
}


def _backbone_tasks() -> dict[str, Task]:
    """Returns four tasks for each backbone: everything, last stage, head, prediction."""
    tasks = {}
    for model, (last_stage, head) in BACKBONES.items():
        everything = Task(model, PHOTO, 32, ADAM, examples=2_048)
        tasks[model] = everything
        tasks[f"{model}_last_stage"] = dataclasses.replace(everything, trains=last_stage)
        tasks[f"{model}_head"] = dataclasses.replace(everything, trains=head)
        tasks[f"{model}_predict"] = dataclasses.replace(everything, trains=NOTHING)
    return tasks


TASKS: dict[str, Task] = {
    "cnn": Task("cnn", MNIST, 64, ADAM),
    "lstm": Task("lstm", MNIST, 128, ADAM),
    "attention": Task("attention", MNIST, 128, ADAM),
    "cifar_cnn": Task("cnn", CIFAR, 64, ADAM),
    "vgg": Task("vgg", CIFAR, 64, ADAM),
    "resnet20": Task("resnet20", CIFAR, 128, ADAM),
    "se_resnet": Task("se_resnet", CIFAR, 128, SE_RESNET),
    **_backbone_tasks(),
    "se_resnet_predict": Task("se_resnet", CIFAR, 128, SE_RESNET, examples=2_048, trains=NOTHING),
    "resnet20_predict": Task("resnet20", CIFAR, 128, ADAM, examples=2_048, trains=NOTHING),
}
