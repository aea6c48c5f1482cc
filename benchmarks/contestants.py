"""Who takes part, and what each one's process needs. Nothing of a peer is imported here."""

import dataclasses
import importlib
import importlib.util
from collections.abc import Callable, Mapping

from benchmarks.tasks import EVERYTHING, Task

BEFORE = "before"
CHECKOUT = "BENCHMARKED_CHECKOUT"  # in the environment of BEFORE's process: the checkout whose package it takes

# Runs so many training steps on shuffled batches, and returns when they are done: their number, where there were more.
Run = Callable[[int], int | None]


@dataclasses.dataclass(frozen=True)
class Contestant:
    """`module` has `create(task_name, **options) -> Run`; `packages` are what it needs beside our own requirements.

    without: models that it does not have. whole: whether it only trains whole networks.
    """

    module: str
    packages: tuple[str, ...] = ()
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    without: tuple[str, ...] = ()
    whole: bool = False

    def create(self, task: str) -> Run:
        return importlib.import_module(f"benchmarks.{self.module}").create(task, **self.options)

    def takes(self, task: Task) -> bool:
        """Whether it can take part in a task."""
        return task.model not in self.without and (task.trains == EVERYTHING or not self.whole)

    def missing(self) -> list[str]:
        """Which of its packages are not installed."""
        return [package for package in self.packages if importlib.util.find_spec(package) is None]


CONTESTANTS: dict[str, Contestant] = {
    "ours": Contestant("ours"),
    BEFORE: Contestant("ours"),
    "ours_per_step": Contestant("ours", options={"dispatch": "per_step"}),
    "ours_jit": Contestant("ours", options={"dispatch": "jit"}),
    "ours_streamed": Contestant("ours", options={"budget": "4e6"}),
    "ours_2_devices": Contestant("ours", environment={"JAX_NUM_CPU_DEVICES": "2"}),
    "jax_naive": Contestant("jax_naive", whole=True),
    "keras": Contestant(
        "keras_fit",
        packages=("keras", "tensorflow"),
        environment={"KERAS_BACKEND": "tensorflow"},
        without=("googlenet", "resnet18", "vgg"),
        whole=True,
    ),
    "torch": Contestant("torch_eager", packages=("torch",), without=("efficientnetv2_b0",)),
    "torch_channels_last": Contestant(
        "torch_eager",
        packages=("torch",),
        options={"layout": "channels_last"},
        without=("efficientnetv2_b0",),
    ),
}
