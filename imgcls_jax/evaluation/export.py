"""A run's best model as files that need nothing of this package: a JAX program and its weights.

The program takes uint8 images [b, H, W, C], for any b, and returns logits float32 [b, K]: it is the
transform, test-time views, model and merged weights. It has no gradients, and only in gradients do
the layers of models/layers.py differ between backends, so a program is right on all PLATFORMS,
wherever it was written.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np
from jax import export, lax

from imgcls_jax import trees
from imgcls_jax.data.image_files import Reader
from imgcls_jax.data.views import View
from imgcls_jax.errors import RunError
from imgcls_jax.evaluation import calibration
from imgcls_jax.evaluation.predict import Predictor
from imgcls_jax.evaluation.scores import softmax
from imgcls_jax.files import write_atomically
from imgcls_jax.models import cpu_kernels
from imgcls_jax.pretrained import safetensors_format
from imgcls_jax.run.folder import EXPORT, RunFolder
from imgcls_jax.training.setup import tta_views
from imgcls_jax.training.train_step import eval_step

PROGRAM = "model.jaxexport"  # for jax.export.deserialize
WEIGHTS = "model.safetensors"  # its metadata describe the model
PLATFORMS = ("cpu", "cuda", "tpu")
NUM_CHECKED = 16  # random images on which the program is compared with the run
# The largest difference accepted, as a share of the largest logit.
TOLERANCE = {"float32": 1e-5, "bfloat16": 5e-2}
BATCH_SIZE = 128  # images that an exported model gets at a time

log = logging.getLogger(__name__)


def write(run: RunFolder) -> Path:
    """Writes PROGRAM and WEIGHTS of the run's best model into its folder `export`; returns that.

    Raises RunError if the program's logits differ from the run's.
    """
    config = run.config
    # By default GPUs and TPUs multiply float32 with fewer bits, which would give other logits.
    with jax.default_matmul_precision("float32"):
        predictor = Predictor(run)
        program = _program(predictor, tta_views(config))
        difference = _difference(predictor, export.deserialize(program).call)
    tolerance = TOLERANCE[config.train.precision]
    if not difference <= tolerance:  # also if it is not a number
        raise RunError(
            f"The program exported from {run.path} gives logits that differ from the run's by "
            f"{difference:.1e} of the largest, more than {tolerance:.0e}: nothing is written."
        )
    folder = run.path / EXPORT
    folder.mkdir(exist_ok=True)
    metadata = _metadata(run, predictor, program)
    arrays = trees.flatten(predictor.variables)
    safetensors_format.write(folder / WEIGHTS, arrays, metadata)
    write_atomically(folder / PROGRAM, program)
    log.info(
        "%s: %s, %s; logits differ from the run's by %.1e of the largest",
        folder,
        _name_and_size(folder / PROGRAM),
        _name_and_size(folder / WEIGHTS),
        difference,
    )
    return folder


def _metadata(
    run: RunFolder,
    predictor: Predictor,
    program: bytes,
) -> dict[str, str]:
    config = run.config
    metadata = {
        "format": "imgcls_jax",
        "name": predictor.name,
        "model": config.model.name,
        "transform": config.data.transform,
        "class_names": json.dumps(predictor.class_names),
        "shape": json.dumps(predictor.shape),
        "config": json.dumps(config.to_dict()),
        "data": json.dumps(run.data),
        "program_sha256": hashlib.sha256(program).hexdigest(),
    }
    temperature = calibration.best_temperature(run)
    if temperature is not None:
        metadata["temperature"] = json.dumps(temperature)
    return metadata


def _name_and_size(file: Path) -> str:
    return f"{file.name} {file.stat().st_size / 1e6:.2f} MB"


def _program(predictor: Predictor, tta: Sequence[tuple[float, View]]) -> bytes:
    """Returns the serialized program; its layers are those that are fast on each platform."""

    def apply(variables, images):
        x = predictor.transform(images)
        return eval_step(predictor.model, variables, x, tta=tta)

    def apply_with_cpu_kernels(variables, images):
        with cpu_kernels.use(enabled=True):
            return apply(variables, images)

    def apply_with_xla_kernels(variables, images):
        with cpu_kernels.use(enabled=False):
            return apply(variables, images)

    def logits(images):
        return lax.platform_dependent(
            predictor.variables,
            images,
            cpu=apply_with_cpu_kernels,
            default=apply_with_xla_kernels,
        )

    dimensions = ["b", *map(str, predictor.shape)]
    shape = export.symbolic_shape(", ".join(dimensions))
    images = jax.ShapeDtypeStruct(shape, np.uint8)
    trace = export.export(jax.jit(logits), platforms=PLATFORMS)
    return bytes(trace(images).serialize())


def _difference(predictor: Predictor, call: Callable) -> float:
    """Returns the largest difference of the program's logits from the run's on random images.

    It is a share of the largest logit.
    """
    rng = np.random.default_rng(0)
    shape = (NUM_CHECKED, *predictor.shape)
    images = rng.integers(0, 256, shape, dtype=np.uint8)
    expected = predictor.logits(images)
    logits = np.asarray(jax.jit(call)(images))
    difference = np.abs(logits - expected).max()
    return float(difference / np.abs(expected).max())


class ExportedClassifier:
    """A `classifiers.Classifier` from the two files that `write` made.

    batch_size: images at a time; None for BATCH_SIZE.
    temperature: at which the confidences are calibrated; None if the export does not say.

    Raises RunError if the folder is not an export, or if its files are damaged or of two exports.
    """

    def __init__(self, path: str | Path, *, batch_size: int | None = None):
        path = Path(path)
        for name in (PROGRAM, WEIGHTS):
            if not (path / name).is_file():
                raise RunError(
                    f"{path} has no {name}: python -m imgcls_jax export RUN writes such a folder."
                )
        metadata = safetensors_format.read_metadata(path / WEIGHTS)
        program = (path / PROGRAM).read_bytes()
        digest = hashlib.sha256(program).hexdigest()
        if digest != metadata.get("program_sha256"):
            raise RunError(
                f"{path / PROGRAM} is damaged, or of another export than {WEIGHTS}: export the "
                "run again."
            )
        self.batch_size = batch_size or BATCH_SIZE
        try:
            self.name = metadata["name"]
            self.class_names = tuple(json.loads(metadata["class_names"]))
            self.shape = tuple(json.loads(metadata["shape"]))
            config = json.loads(metadata["config"])
            data = json.loads(metadata["data"])
            self.temperature = json.loads(metadata.get("temperature", "null"))
            self.reader = Reader.of(config["data"], data)
            exported = export.deserialize(bytearray(program))
            self._call = jax.jit(exported.call)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise RunError(
                f"{path} holds no export, or one of another version "
                f"({type(error).__name__}: {error}): export again."
            ) from error

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Returns logits float32 [N, K] of images uint8 [N, H, W, C]."""
        batches = []
        for start in range(0, len(images), self.batch_size):
            batch = images[start : start + self.batch_size]
            batches.append(self._call(batch))
        return np.concatenate(batches)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Returns probabilities float64 [N, K] of images uint8 [N, H, W, C]."""
        return softmax(self.logits(images))
