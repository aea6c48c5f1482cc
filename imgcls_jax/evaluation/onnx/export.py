"""Writes a run's best model as ONNX, after comparing it with the run on its test set."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime

from imgcls_jax import files
from imgcls_jax.data import Splits
from imgcls_jax.data.views import View
from imgcls_jax.errors import RunError
from imgcls_jax.evaluation import calibration, paired
from imgcls_jax.evaluation.onnx import FIGURES, INT8_MODEL, MODEL, PAGE, graph, int8
from imgcls_jax.evaluation.onnx.runtime import (
    BATCH_SIZE,
    OnnxClassifier,
    images_per_second,
    num_threads,
    simplify,
)
from imgcls_jax.evaluation.predict import Predictor
from imgcls_jax.models import cpu_kernels
from imgcls_jax.run.folder import EXPORT, RunFolder
from imgcls_jax.training.setup import tta_views
from imgcls_jax.training.train_step import eval_step

# The largest difference of logits accepted, as a share of the largest logit.
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}
MAX_CALIBRATION = 512  # validation images that int8 is calibrated on
PREPROCESSING = "preprocessing"  # scopes of the graph
NETWORK = "network"

log = logging.getLogger(__name__)


def write(
    run: RunFolder,
    data: Splits,
    *,
    with_int8: bool = False,
) -> Path:
    """Writes MODEL and FIGURES of the run's best model into its folder `export`; returns that.

    with_int8: writes INT8_MODEL too. What earlier exports left of another model is removed. Raises
    RunError if the model's logits differ from the run's on the test set.
    """
    views = tta_views(run.config)
    with jax.default_matmul_precision("float32"):
        predictor = Predictor(run)
        model = to_onnx(predictor, views, _metadata(run, predictor))
        expected = predictor.logits(data.test.images)
    content = model.SerializeToString()
    classifier = OnnxClassifier(content)
    logits = classifier.logits(data.test.images)
    difference = _check(run, logits, expected)
    batch = data.test.images[:BATCH_SIZE]
    labels = data.test.labels
    figures: dict[str, Any] = {
        "images": len(labels),
        "batch_size": len(batch),
        "cores": num_threads(),
        "versions": {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__},
        "run": {
            "accuracy": _accuracy(expected, labels),
            "images_per_second": images_per_second(compiled(predictor, views), batch),
            "platform": jax.default_backend(),
        },
        "float32": {
            **_figures(content, classifier, batch, logits, labels),
            "largest_difference": difference,
        },
    }
    contents = {MODEL: content}
    if with_int8:
        contents[INT8_MODEL], figures["int8"] = _int8(model, data, logits)
    folder = run.path / EXPORT
    folder.mkdir(exist_ok=True)
    if not _is_there(folder / MODEL, content):
        _remove(folder, (INT8_MODEL, PAGE))
    elif (folder / INT8_MODEL).exists() and not with_int8:
        earlier_figures = run.read_json(f"{EXPORT}/{FIGURES}")
        if "int8" in earlier_figures:  # not of an export that was killed
            figures["int8"] = earlier_figures["int8"]
    for name, bytes_ in contents.items():
        files.write_atomically(folder / name, bytes_)
    text = json.dumps(figures, indent=1) + "\n"
    files.write_atomically(folder / FIGURES, text.encode())
    log.info("%s: %s", folder, _summary(figures))
    return folder


def _is_there(path: Path, content: bytes) -> bool:
    return path.exists() and path.read_bytes() == content


def _remove(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        path = folder / name
        if path.exists():
            path.unlink()
            log.info("Removed %s, which was of another model.", path)


def to_onnx(
    predictor: Predictor,
    views: Sequence[tuple[float, View]],
    metadata: Mapping[str, str],
) -> onnx.ModelProto:
    """Returns a run's best model, from uint8 images to logits as trained, in float32.

    views: of an image, over which the logits are averaged. metadata: texts that the model has.
    """
    network = predictor.model.clone(dtype=jnp.float32)  # few runtimes compute in bfloat16

    def logits(x):
        return eval_step(network, predictor.variables, x, tta=views)

    functions = {PREPROCESSING: predictor.transform, NETWORK: logits}
    with cpu_kernels.use(enabled=False):
        model = graph.convert(functions, predictor.shape, metadata)
    return simplify(model)


def compiled(
    predictor: Predictor,
    views: Sequence[tuple[float, View]],
) -> Callable[[np.ndarray], jax.Array]:
    """Returns a run's model as one program of JAX, from uint8 images to logits as trained."""

    @jax.jit
    def apply(variables, images):
        x = predictor.transform(images)
        return eval_step(predictor.model, variables, x, tta=views)

    variables = jax.device_put(predictor.variables)
    return lambda images: apply(variables, images).block_until_ready()


def _metadata(
    run: RunFolder,
    predictor: Predictor,
) -> dict[str, str]:
    metadata = {
        "name": predictor.name,
        "class_names": json.dumps(predictor.class_names),
    }
    temperature = calibration.best_temperature(run)
    if temperature is not None:
        metadata["temperature"] = json.dumps(temperature)
    return metadata


def _check(
    run: RunFolder,
    logits: np.ndarray,
    expected: np.ndarray,
) -> float:
    """Returns the largest difference of logits, as a share of the largest; it has to be small."""
    largest = np.abs(expected).max()
    differences = np.abs(logits - expected).max(-1) / largest
    difference = float(differences.max())
    tolerance = TOLERANCE[run.config.train.precision]
    if not difference <= tolerance:  # also if it is not a number
        is_other = logits.argmax(-1) != expected.argmax(-1)
        raise RunError(
            f"The ONNX model of {run.path} gives logits that differ from the run's by up to "
            f"{difference:.1e} of the largest, more than {tolerance:.0e}, the most on test image "
            f"{differences.argmax()}; {is_other.sum():,} of {len(logits):,} test images get "
            "another class. Nothing is written."
        )
    return difference


def _int8(
    model: onnx.ModelProto,
    data: Splits,
    float_logits: np.ndarray,
) -> tuple[bytes, dict[str, Any]]:
    """Returns the quantized model, and how it compares with the model in float32."""
    calibration_data = data.validation.sample(MAX_CALIBRATION).in_memory()
    content = int8.quantize(model, calibration_data.images, float_scope=f"{PREPROCESSING}/")
    classifier = OnnxClassifier(content)
    logits = classifier.logits(data.test.images)
    labels = data.test.labels
    batch = data.test.images[:BATCH_SIZE]
    is_right = logits.argmax(-1) == labels
    is_float_right = float_logits.argmax(-1) == labels
    figures = {
        **_figures(content, classifier, batch, logits, labels),
        "calibration_images": len(calibration_data),
        "against_float32": paired.compare(is_right, is_float_right),
    }
    return content, figures


def _figures(
    content: bytes,
    classifier: OnnxClassifier,
    batch: np.ndarray,
    logits: np.ndarray,
    labels: np.ndarray,
) -> dict[str, Any]:
    return {
        "bytes": len(content),
        "accuracy": _accuracy(logits, labels),
        "images_per_second": images_per_second(classifier.logits, batch),
    }


def _accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    is_right = logits.argmax(-1) == labels
    return float(is_right.mean())


def _summary(figures: dict[str, Any]) -> str:
    floats = figures["float32"]
    text = (
        f"{MODEL} {floats['bytes'] / 1e6:.2f} MB; logits differ from the run's by "
        f"{floats['largest_difference']:.1e} of the largest"
    )
    if "int8" in figures:
        int8_figures = figures["int8"]
        comparison = int8_figures["against_float32"]
        text += (
            f"; {INT8_MODEL} {int8_figures['bytes'] / 1e6:.2f} MB, accuracy "
            f"{100 * comparison['difference']:+.2f} points (p {paired.p_value(comparison['p'])})"
        )
    return text
