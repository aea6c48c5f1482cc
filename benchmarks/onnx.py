"""ONNX models beside JAX, in float32 and int8: python -m benchmarks.onnx runs/NAME ...

Runs are exported, and their figures are those of their test sets. The other architectures have
random weights and random images: their errors and speeds are measured, and no accuracy. --models
chooses among them.
"""

import json
import sys
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.common import command_line, machine, names_in, progress
from benchmarks.tasks import CIFAR, MNIST, PHOTO
from imgcls_jax import backend, models
from imgcls_jax.commands import runs
from imgcls_jax.data.transforms import parse
from imgcls_jax.data.views import VIEWS
from imgcls_jax.evaluation import paired
from imgcls_jax.evaluation.onnx import FIGURES, export, int8
from imgcls_jax.evaluation.onnx.runtime import BATCH_SIZE, OnnxClassifier, images_per_second
from imgcls_jax.reporting.plain_tables import markdown_row, markdown_table
from imgcls_jax.training.initializer import Initializer

# The shape of the images of each architecture.
SHAPES = {
    "cnn": MNIST,
    "lstm": MNIST,
    "attention": MNIST,
    "vgg": CIFAR,
    "fast_cnn": CIFAR,
    "resnet20": CIFAR,
    "se_resnet": CIFAR,
    "simclr": CIFAR,
    "hybrid": CIFAR,
    "resnet18": PHOTO,
    "resnet50": PHOTO,
    "resnet50_keras": PHOTO,
    "googlenet": PHOTO,
    "efficientnet_b0": PHOTO,
    "efficientnetv2_b0": PHOTO,
    "efficientnet_lite0": PHOTO,
    "convnext_tiny": PHOTO,
}
HEAD = (
    "Model",
    "Largest error",
    "float32, MB",
    "int8, MB",
    "JAX, images/s",
    "float32, images/s",
    "int8, images/s",
    "float32, %",
    "int8, %",
    "p",
)


def main(arguments: list[str]) -> None:
    parser = command_line("benchmarks.onnx", __doc__)
    parser.add_argument("folders", nargs="*", metavar="RUN")
    parser.add_argument("--models", type=names_in(SHAPES), default=list(SHAPES))
    options = parser.parse_args(arguments)
    backend.configure()
    print(f"\n{machine()}; batches of {BATCH_SIZE} images.\n")
    print(markdown_table(HEAD, (), figures=range(1, len(HEAD))), end="")
    for run in runs.tested(options.folders):
        progress(run.name)
        with runs.locked_with_data(run) as data:
            folder = export.write(run, data, with_int8=True)
        figures = json.loads((folder / FIGURES).read_text())
        print_row(f"{run.config.model.name}, of {run.name}", figures)
    for name in options.models:
        progress(name)
        print_row(f"{name}, random weights", measure(name))


def measure(name: str) -> dict[str, Any]:
    """Returns the figures of an architecture with random weights, without accuracies."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BATCH_SIZE, *SHAPES[name]), dtype=np.uint8)
    predictor = untrained(name, images)
    views = VIEWS["none"]
    logits = export.compiled(predictor, views)
    model = export.to_onnx(predictor, views, {})
    content = model.SerializeToString()
    classifier = OnnxClassifier(content)
    expected = np.asarray(logits(images))
    difference = np.abs(classifier.logits(images) - expected).max() / np.abs(expected).max()
    quantized = int8.quantize(model, images, float_scope=f"{export.PREPROCESSING}/")
    return {
        "run": {"images_per_second": images_per_second(logits, images)},
        "float32": {
            "bytes": len(content),
            "images_per_second": images_per_second(classifier.logits, images),
            "largest_difference": float(difference),
        },
        "int8": {
            "bytes": len(quantized),
            "images_per_second": images_per_second(OnnxClassifier(quantized).logits, images),
        },
    }


def untrained(name: str, images: np.ndarray) -> SimpleNamespace:
    """Returns what an export needs of a run: a model with its initial weights, and its transform."""
    model = models.create(ConfigDict({"name": name}), num_classes=10)
    transform = parse("normalize(0.5, 0.25)")
    variables = Initializer(model, jax.eval_shape(transform, images[:1]), seed=0).variables
    variables = model.prepare(variables, images, transform)
    return SimpleNamespace(
        model=model,
        transform=transform,
        variables=jax.device_get(variables),
        shape=images.shape[1:],
    )


def print_row(name: str, figures: Mapping[str, Any]) -> None:
    """Prints a line of the table, without accuracies where none were measured."""
    floats = figures["float32"]
    quantized = figures["int8"]
    accuracies = ("", "", "")
    if "accuracy" in floats:
        accuracies = (
            f"{100 * floats['accuracy']:.2f}",
            f"{100 * quantized['accuracy']:.2f}",
            paired.p_value(quantized["against_float32"]["p"]),
        )
    cells = (
        name,
        f"{floats['largest_difference']:.0e}",
        f"{floats['bytes'] / 1e6:.2f}",
        f"{quantized['bytes'] / 1e6:.2f}",
        f"{figures['run']['images_per_second']:,.0f}",
        f"{floats['images_per_second']:,.0f}",
        f"{quantized['images_per_second']:,.0f}",
        *accuracies,
    )
    print(markdown_row(cells), end="", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
