"""The contestants, and what the process of each needs. Nothing of a peer is imported here."""

import dataclasses
import importlib
import importlib.util
from collections.abc import Callable, Mapping

from benchmarks.tasks import EVERYTHING, Task

BEFORE = "before"
CHECKOUT = "BENCHMARKED_CHECKOUT"  # environment variable of BEFORE's process: the checkout it uses

# Runs at least this many training steps on shuffled batches; returns their number if it was more.
Run = Callable[[int], int | None]


@dataclasses.dataclass(frozen=True)
class Contestant:
    """A library, or a way of using it, that trains the tasks.

    module: of this package; has `create(task_name, **options) -> Run`.
    packages: what it needs besides our own requirements.
    options: of `create`.
    environment: variables of its process.
    without: models that it does not have.
    whole: whether it can only train whole networks.
    """

    module: str
    packages: tuple[str, ...] = ()
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    without: tuple[str, ...] = ()
    whole: bool = False

    def create(self, task: str) -> Run:
        module = importlib.import_module(f"benchmarks.{self.module}")
        return module.create(task, **self.options)

    def takes(self, task: Task) -> bool:
        """Returns whether it can take part in a task."""
        if self.whole and task.trains != EVERYTHING:
            return False
        return task.model not in self.without

    def missing(self) -> list[str]:
        """Returns those of its packages that are not installed."""
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
    "torch": Contestant(
        "torch_eager",
        packages=("torch",),
        without=("efficientnetv2_b0",),
    ),
    "torch_channels_last": Contestant(
        "torch_eager",
        packages=("torch",),
        options={"layout": "channels_last"},
        without=("efficientnetv2_b0",),
    ),
}
