"""What a config would need at least on a device that is not there: time and memory.

Nothing is trained. XLA counts the operations and bytes of a step and plans its memory; a device
that did nothing but compute, or nothing but read and write memory, would take at least so long.
"""

import dataclasses
import json
import math
import statistics
from collections.abc import Iterable

import jax
import numpy as np
from ml_collections import ConfigDict

from imgcls_jax import models
from imgcls_jax.data import Splits
from imgcls_jax.data.streaming import steps_in_window
from imgcls_jax.devices import CPU, DEVICES, GIGA, Device
from imgcls_jax.errors import ConfigError, RunError
from imgcls_jax.models import cpu_kernels
from imgcls_jax.run.folder import RunFolder, runs_in
from imgcls_jax.training import setup

BYTES = {"float32": 4, "bfloat16": 2}  # of a number, by precision


@dataclasses.dataclass(frozen=True)
class Plan:
    """What one step of training needs, counted by XLA.

    flops: before XLA optimizes the program. num_bytes: read and written, as XLA fuses operations
    for CPUs, the body of a loop once. memory: bytes of data, state and whatever the step keeps, in
    float32.
    """

    flops: float
    num_bytes: float
    memory: float
    batch_size: int
    steps_per_epoch: int
    precision: str

    def computing(self, device: Device) -> float:
        """Returns the seconds of a step that the products take at least."""
        return self.flops / device.flops[self.precision]

    def moving(self, device: Device) -> float:
        """Returns the seconds of a step that reading and writing memory takes, about."""
        return self.num_bytes / device.bandwidth

    def floor(self, device: Device) -> float:
        """Returns the seconds of a step if the one goes on while the other does."""
        return max(self.computing(device), self.moving(device))


@dataclasses.dataclass(frozen=True)
class Measurement:
    """How fast a published run was.

    folder: of the run. device: its name. seconds_per_step: at the plan's batch size, the median of
    its epochs.
    """

    folder: str
    device: str
    seconds_per_step: float


def plan(config: ConfigDict, data: Splits, device: Device) -> Plan:
    """Returns what a step of a config's first phase needs on one device of a kind.

    Compiles the step for this machine's CPU, of shapes alone: data and batch need no memory. A step
    in bfloat16 is compiled in float32, since CPUs convert between them, and moves half the bytes.
    Raises ConfigError if the device does not compute in the config's precision.
    """
    precision = config.train.precision
    if precision not in device.flops:
        raise ConfigError(
            f"train.precision is {precision!r}, in which {device.name} is not fast: "
            f"give --config.train.precision={', '.join(device.flops)}."
        )
    config = config.copy_and_resolve_references()
    config.train.precision = "float32"
    share = BYTES[precision] / BYTES["float32"]
    phase = setup.build(config, data)[0]
    batch_size = config.train.batch_size
    num_devices = jax.device_count()
    targets = jax.eval_shape(lambda: data.train.targets)
    if config.objective.get("teacher"):
        shape = (len(data.train), len(data.train.class_names))
        targets["teacher"] = jax.ShapeDtypeStruct(shape, np.float32)
    images, others = _images(phase, data)
    indices = jax.ShapeDtypeStruct((num_devices, 1, batch_size // num_devices), np.int32)
    with cpu_kernels.use(enabled=device is CPU):
        flops = phase.train.flops(phase.shapes, (images, targets), indices)
        lowered = phase.train.program.lower(
            *phase.train.arguments(phase.shapes, (images, targets), indices)
        )
    compiled = lowered.compile()
    memory = compiled.memory_analysis()
    return Plan(
        flops=flops,
        num_bytes=compiled.cost_analysis()["bytes accessed"] * num_devices * share,
        memory=(
            others
            + memory.argument_size_in_bytes
            + memory.output_size_in_bytes
            + memory.temp_size_in_bytes
            - memory.alias_size_in_bytes
        ),
        batch_size=batch_size,
        steps_per_epoch=phase.steps_per_epoch,
        precision=precision,
    )


def _images(phase: setup.Setup, data: Splits) -> tuple[jax.ShapeDtypeStruct, int]:
    """Returns what a step reads of the training images, and the bytes of others on the device.

    These are the validation images or, of streamed ones, the window that is read meanwhile.
    """
    num_train = len(data.train)
    image_shape = data.train.images.shape[1:]
    if phase.embed:
        model, transform = setup.build_model(phase.config, num_classes=len(data.train.class_names))
        image = jax.eval_shape(transform, data.train.images[:1])
        size = setup.num_features(model, image)
        features = jax.ShapeDtypeStruct((num_train, size), np.float32)
        return features, 4 * size * len(data.validation)
    if phase.budget is None:
        images = jax.ShapeDtypeStruct((num_train, *image_shape), np.uint8)
        return images, math.prod(data.validation.images.shape)
    settings = phase.config.train
    steps = min(
        steps_in_window(image_shape, settings.batch_size, phase.budget),
        settings.steps_per_dispatch,
        phase.steps_per_epoch,
    )
    window = jax.ShapeDtypeStruct((steps * settings.batch_size, *image_shape), np.uint8)
    return window, window.size


def measurements(config: ConfigDict, folders: Iterable[str]) -> list[Measurement]:
    """Returns how fast the published runs of such steps were, the fastest first."""
    wanted = _recipe(config)
    measured = []
    for run in runs_in(folders):
        try:
            if _recipe(run.config) == wanted:
                measured.append(_measurement(run, config.train.batch_size))
        except RunError:  # a run that is damaged, or published without its epochs
            continue
    return sorted(measured, key=lambda measurement: measurement.seconds_per_step)


def _recipe(config: ConfigDict) -> str:
    architecture = models.architecture(config.model)
    settings = config.train
    parts = [architecture, config.data.transform, settings.precision, settings.batch_size]
    return json.dumps(parts, default=str)


def _measurement(run: RunFolder, batch_size: int) -> Measurement:
    rates = [line["images_per_second"] for line in run.history]
    return Measurement(
        folder=str(run.path),
        device=run.environment["device"],
        seconds_per_step=batch_size / statistics.median(rates),
    )


def describe(step: Plan, device: Device, measured: Iterable[Measurement]) -> str:
    """Returns a plan in words."""
    floor = step.floor(device)
    fits = "the batch fits"
    if step.memory > device.memory:
        fits = "the batch does NOT fit: take a smaller train.batch_size"
    lines = [
        f"{device.name}, {step.precision}, {step.batch_size} images a step: "
        f"{step.flops / GIGA:,.2f} GFLOP, {step.num_bytes / GIGA:,.3f} GB read and written.",
        f"Products take at least {1000 * step.computing(device):,.3f} ms a step, memory about "
        f"{1000 * step.moving(device):,.3f} ms.",
        f"Floor: {1000 * floor:,.3f} ms a step, {step.steps_per_epoch * floor:,.2f} s an epoch of "
        f"{step.steps_per_epoch:,} steps, {step.batch_size / floor:,.0f} images/s. Launches, "
        "validation and compiling come on top.",
        f"Memory, data included: at most {step.memory / GIGA:,.2f} of {device.memory / GIGA:,.0f} "
        f"GB; {fits}.",
        *_comparison(step, measured),
    ]
    return "\n".join(lines)


def _comparison(step: Plan, measured: Iterable[Measurement]) -> list[str]:
    """Returns a line for each kind of device on which such a run was measured."""
    fastest: dict[str, Measurement] = {}
    for measurement in measured:
        fastest.setdefault(measurement.device, measurement)
    lines = []
    for name, measurement in fastest.items():
        share = ""
        for device in DEVICES.values():
            if device.name in name:
                relative = step.floor(device) / measurement.seconds_per_step
                share = f", {relative:.1%} of the floor's speed"
        lines.append(
            f"Measured on {name}: {1000 * measurement.seconds_per_step:,.1f} ms a step{share} "
            f"({measurement.folder})."
        )
    return lines or [
        "No published run of this model, transform, precision and batch size was measured."
    ]
