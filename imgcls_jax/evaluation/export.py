"""A run's best model as files that need nothing of this package: a program for JAX, and its weights.

The program is a function of uint8 images [b, H, W, C], b any, to logits float32 [b, K]: transform, views, model and
merged weights. It has no gradient, in which alone the layers of models/layers.py differ from backend to backend, so
that what is written on one platform is right on all PLATFORMS.
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
from imgcls_jax.evaluation.predict import Predictor
from imgcls_jax.evaluation.scores import softmax
from imgcls_jax.files import write_atomically
from imgcls_jax.models import cpu_kernels
from imgcls_jax.pretrained import safetensors_format
from imgcls_jax.run.folder import EXPORT, RunFolder
from imgcls_jax.training.setup import views
from imgcls_jax.training.steps import mean_over_views

PROGRAM = "model.jaxexport"  # as jax.export.deserialize reads it
WEIGHTS = "model.safetensors"  # with all that is known of the model in its metadata
PLATFORMS = ("cpu", "cuda", "tpu")
CHECKED = 16  # random images on which the program is compared with the run
TOLERANCE = {
    "float32": 1e-5,
    "bfloat16": 5e-2,
}  # largest difference, as a share of the largest logit
BATCH = 128  # images that an exported model takes at a time

log = logging.getLogger(__name__)


def write(run: RunFolder) -> Path:
    """Writes PROGRAM and WEIGHTS of the run's best model into its folder `export`, and returns that.

    Raises RunError where the program gives other logits than the run.
    """
    config = run.config
    # By themselves GPUs and TPUs multiply float32 with fewer bits: the program would give other logits there.
    with jax.default_matmul_precision("float32"):
        predictor = Predictor(run)
        program = _program(predictor, views(config))
        off = _difference(predictor, export.deserialize(program).call)
    if not off <= TOLERANCE[config.train.precision]:  # nor where it is not a number
        raise RunError(
            f"The program exported from {run.path} gives logits that differ from the run's by {off:.1e} of the "
            f"largest, more than {TOLERANCE[config.train.precision]:.0e}: nothing is written."
        )
    folder = run.path / EXPORT
    folder.mkdir(exist_ok=True)
    words = {
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
    safetensors_format.write(folder / WEIGHTS, trees.flatten(predictor.variables), words)
    write_atomically(folder / PROGRAM, program)
    sizes = ", ".join(
        f"{name} {(folder / name).stat().st_size / 1e6:.2f} MB" for name in (PROGRAM, WEIGHTS)
    )
    log.info("%s: %s; logits differ from the run's by %.1e of the largest", folder, sizes, off)
    return folder


def _program(predictor: Predictor, views: Sequence[tuple[float, View]]) -> bytes:
    def forward(own: bool):
        @cpu_kernels.use(enabled=own)
        def apply(variables, images):
            return mean_over_views(
                predictor.model, variables, predictor.transform(images), views=views
            )

        return apply

    def logits(images):
        # Each platform has the layers that are fast there, on the same weights.
        return lax.platform_dependent(
            predictor.variables, images, cpu=forward(True), default=forward(False)
        )

    shape = export.symbolic_shape(", ".join(["b", *map(str, predictor.shape)]))
    exported = export.export(jax.jit(logits), platforms=PLATFORMS)(
        jax.ShapeDtypeStruct(shape, np.uint8)
    )
    return bytes(exported.serialize())


def _difference(predictor: Predictor, call: Callable) -> float:
    """The largest between the run's logits and the program's on random images, as a share of the largest logit."""
    images = np.random.default_rng(0).integers(0, 256, (CHECKED, *predictor.shape), dtype=np.uint8)
    expected = predictor.logits(images)
    return float(
        np.abs(np.asarray(jax.jit(call)(images)) - expected).max() / np.abs(expected).max()
    )


class ExportedClassifier:
    """The model in a folder that `write` made: a Predictor that needs its two files alone.

    name: of the run. class_names: of the K classes. shape: (H, W, C) of its images. reader: makes such of people's
    files. Raises RunError for a folder that
    is none, and for files that are damaged or not of one export.
    """

    def __init__(self, path: str | Path):
        path = Path(path)
        missing = [name for name in (PROGRAM, WEIGHTS) if not (path / name).is_file()]
        if missing:
            raise RunError(
                f"{path} has no {missing[0]}: python -m imgcls_jax export RUN writes such a folder."
            )
        words = safetensors_format.read_metadata(path / WEIGHTS)
        program = (path / PROGRAM).read_bytes()
        if hashlib.sha256(program).hexdigest() != words.get("program_sha256"):
            raise RunError(
                f"{path / PROGRAM} is damaged, or of another export than {WEIGHTS}: export the run again."
            )
        try:
            self.name, self.class_names = words["name"], tuple(json.loads(words["class_names"]))
            self.shape = tuple(json.loads(words["shape"]))
            self.reader = Reader.of(json.loads(words["config"])["data"], json.loads(words["data"]))
            self._call = jax.jit(export.deserialize(bytearray(program)).call)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise RunError(
                f"{path} holds no export, or one of another version ({type(error).__name__}: {error}): export again."
            ) from error
        self.batch_size = BATCH

    def logits(self, images: np.ndarray) -> np.ndarray:
        """images uint8 [N, H, W, C] -> logits float32 [N, K]."""
        return np.concatenate(
            [self._call(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
        )

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """images uint8 [N, H, W, C] -> probabilities float64 [N, K]."""
        return softmax(self.logits(images))
