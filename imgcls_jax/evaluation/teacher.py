"""The teacher's predictions for the training images, computed once before distillation begins."""

import dataclasses
import logging
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from imgcls_jax import distributed, foreign
from imgcls_jax.data import Splits
from imgcls_jax.data.batches import filled_batches
from imgcls_jax.data.dataset import Dataset
from imgcls_jax.errors import ConfigError, printable
from imgcls_jax.evaluation import classifiers
from imgcls_jax.evaluation.calibration import log_probabilities
from imgcls_jax.files import write_npz
from imgcls_jax.run import schema
from imgcls_jax.training import objectives

log = logging.getLogger(__name__)

CHUNK_SIZE = 2000  # images between two updates of the progress bar


def add_predictions(
    config: ConfigDict,
    data: Splits,
    file: Path | None = None,
) -> Splits:
    """Returns `data` with the teacher's log probabilities on the training images.

    The teacher is `config.objective.teacher`; without one, `data` is returned as it is. It gets the
    images without augmentation.

    file: where the predictions are kept, so that a resumed run learns from the same ones.

    Raises ConfigError if the teacher has other classes or images of another shape.
    """
    _require_valid_objective(config, data.train)
    objective = config.get("objective") or {}
    teacher = objective.get("teacher")
    if not teacher:
        return data
    predictions = distributed.from_primary(lambda: _predictions(teacher, data.train, file))
    train = dataclasses.replace(data.train, teacher=predictions)
    return dataclasses.replace(data, train=train)


def _require_valid_objective(config: ConfigDict, train: Dataset) -> None:
    """Raises ConfigError for a bad objective now, rather than after the teacher's long work."""
    objectives.create(config, train=train)


def _predictions(
    teacher: str,
    train: Dataset,
    file: Path | None,
) -> np.ndarray:
    """Returns the log probabilities, float32 [N, K], from the file if it has them."""
    saved = _saved_predictions(file, train)
    if saved is not None:
        return saved
    classifier = classifiers.load(teacher)
    _check_teacher(teacher, classifier, train)
    log.info("%s looks at the %s training images once.", teacher, f"{len(train):,}")
    probabilities = _probabilities(classifier, train.images)
    predictions = log_probabilities(probabilities).astype(np.float32)
    if file:
        fingerprint = np.array(train.fingerprint)
        write_npz(file, log_probabilities=predictions, fingerprint=fingerprint)
    return predictions


def _saved_predictions(file: Path | None, train: Dataset) -> np.ndarray | None:
    """Returns the log probabilities in the file, or None if it has none for these images.

    Raises RunError if the file is damaged.
    """
    if file is None or not file.exists():
        return None
    try:
        with foreign.open_npz(file) as arrays:
            fingerprint = str(arrays["fingerprint"])
            predictions = arrays["log_probabilities"]
        shape = (len(train), len(train.class_names))
        if fingerprint == train.fingerprint and predictions.shape != shape:
            raise ValueError(f"it should hold log probabilities {shape}")
        if predictions.dtype != np.float32 or not np.isfinite(predictions).all():
            raise ValueError("its log probabilities are no finite numbers")
    except Exception as error:  # a damaged file can raise nearly anything
        raise schema.damaged(file, error) from error
    if fingerprint != train.fingerprint:
        return None
    return predictions


def _check_teacher(
    teacher: str,
    classifier: classifiers.Classifier,
    train: Dataset,
) -> None:
    """Raises ConfigError if the teacher has other classes, or images of another shape."""
    image_shape = train.images.shape[1:]
    _check_same("classes", teacher, classifier.class_names, train.class_names)
    _check_same("images of the shape", teacher, classifier.shape, image_shape)


def _check_same(
    kind: str,
    teacher: str,
    of_teacher: tuple,
    of_data: tuple,
) -> None:
    if tuple(of_teacher) == tuple(of_data):
        return
    teacher_text = ", ".join(map(str, of_teacher))
    data_text = ", ".join(map(str, of_data))
    raise ConfigError(
        f"The teacher {teacher} (config.objective.teacher) knows {kind} {teacher_text}; these are "
        f"{data_text}: it cannot teach them."
    )


def _probabilities(classifier: classifiers.Classifier, images: np.ndarray) -> np.ndarray:
    """Returns `classifier.probabilities(images)`, with a progress bar."""
    count = len(images)
    chunks = []
    name = printable(classifier.name)
    with tqdm(total=count, desc=name, unit="image", disable=None) as bar:
        for indices in filled_batches(count, min(CHUNK_SIZE, count)):
            chunks.append(classifier.probabilities(images[indices]))
            remaining = count - bar.n
            bar.update(min(len(indices), remaining))
    return np.concatenate(chunks)[:count]
