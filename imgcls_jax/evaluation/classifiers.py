"""Whatever classifies images: a run, an ensemble of runs, or what was exported from one, by its folder; published
weights by their name."""

from pathlib import Path
from typing import Protocol

import numpy as np

from imgcls_jax.data.image_files import Reader
from imgcls_jax.evaluation.ensemble import EnsemblePredictor
from imgcls_jax.evaluation.export import WEIGHTS, ExportedClassifier
from imgcls_jax.evaluation.predict import Predictor
from imgcls_jax.evaluation.published import PublishedClassifier
from imgcls_jax.pretrained import CATALOG
from imgcls_jax.run.folder import ENSEMBLE, RunFolder


class Classifier(Protocol):
    """name: of its folder, or of the run it was exported from. shape: (H, W, C) of its images. reader: makes such
    images of people's files. batch_size: images that it takes best at a time."""

    name: str
    class_names: tuple[str, ...]
    shape: tuple[int, int, int]
    reader: Reader
    batch_size: int

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """images uint8 [N, H, W, C] -> probabilities float64 [N, K]."""


def load(path: str | Path) -> Classifier:
    """The classifier in a folder of `--mode train`, `ensemble` or `export`, or of a name in the catalogue of weights.

    Raises RunError where there is none.
    """
    if str(path) in CATALOG:
        return PublishedClassifier(str(path))
    folder = RunFolder(path)
    folder.check_plain()
    if (folder.path / ENSEMBLE).exists():
        return EnsemblePredictor(folder)
    if (folder.path / WEIGHTS).exists():
        return ExportedClassifier(folder.path)
    return Predictor(folder)
