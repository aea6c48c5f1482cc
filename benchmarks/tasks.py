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


@dataclasses.dataclass(frozen=True)
class Task:
    """One row of the table.

    image: shape [H, W, C] of the data it stands for; optimizer: options of config.optimizer in configs/base.py.
    """

    image: tuple[int, int, int]
    batch_size: int
    optimizer: Mapping[str, Any]
    examples: int = 50_000
    classes: int = 10

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Synthetic images uint8 [N, H, W, C] and labels int32 [N]: noise, whose values do not change the timing."""
        random = np.random.default_rng(0)
        images = random.integers(0, 256, (self.examples, *self.image), dtype=np.uint8)
        return images, random.integers(0, self.classes, self.examples, dtype=np.int32)


MNIST, CIFAR = (28, 28, 1), (32, 32, 3)
TASKS: dict[str, Task] = {
    "cnn": Task(MNIST, 64, ADAM),
    "lstm": Task(MNIST, 128, ADAM),
    "attention": Task(MNIST, 128, ADAM),
    "resnet20": Task(CIFAR, 128, ADAM),
    "se_resnet": Task(CIFAR, 128, SE_RESNET),
}
