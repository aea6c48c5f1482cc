"""Anything that classifies images: a run, an ensemble, an export, or published weights."""

from pathlib import Path
from typing import Protocol

import numpy as np

from imgcls_jax.data.image_files import Reader
from imgcls_jax.errors import RunError
from imgcls_jax.evaluation.ensemble import EnsemblePredictor
from imgcls_jax.evaluation.export import WEIGHTS, ExportedClassifier
from imgcls_jax.evaluation.onnx import MODEL
from imgcls_jax.evaluation.predict import Predictor
from imgcls_jax.evaluation.published import PublishedClassifier
from imgcls_jax.evaluation.unknown import CautiousPredictor
from imgcls_jax.pretrained import CATALOG
from imgcls_jax.run.ensemble_folder import EnsembleFolder
from imgcls_jax.run.folder import ENSEMBLE, UNKNOWN, RunFolder


class Classifier(Protocol):
    """What predicts the classes of images.

    name: of its folder, or of the run it was exported from.
    class_names: of the K classes.
    shape: (H, W, C) of the images.
    reader: reads image files into images of that shape.
    batch_size: number of images that it takes best at a time.
    """

    name: str
    class_names: tuple[str, ...]
    shape: tuple[int, int, int]
    reader: Reader
    batch_size: int

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Returns probabilities float64 [N, K] of images uint8 [N, H, W, C]."""


def load(path: str | Path, *, batch_size: int | None = None) -> Classifier:
    """Loads the folder of a run, an ensemble or an export, or the weights of a name in the catalog.

    batch_size: images at a time; None for what the classifier takes best.

    Raises RunError if the folder holds none of these.
    """
    if str(path) in CATALOG:
        return PublishedClassifier(str(path), batch_size=batch_size)
    folder = RunFolder(path)
    folder.check_plain()
    if (folder.path / ENSEMBLE).exists():
        return EnsemblePredictor(EnsembleFolder(path), batch_size=batch_size)
    if (folder.path / WEIGHTS).exists():
        return ExportedClassifier(folder.path, batch_size=batch_size)
    if (folder.path / MODEL).exists():
        raise RunError(
            f"{path} holds a model for ONNX Runtime alone. Give the run itself, or "
            "`imgcls export RUN` writes the program for JAX beside it."
        )
    if (folder.path / UNKNOWN).exists():
        return CautiousPredictor(folder, batch_size=batch_size)
    return Predictor(folder, batch_size=batch_size)
