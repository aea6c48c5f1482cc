"""What a teacher says of the training images: computed once, before distillation begins."""

import dataclasses
import logging
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from imgcls_jax import distributed, foreign
from imgcls_jax.data import Splits
from imgcls_jax.data.batches import filled_batches
from imgcls_jax.errors import ConfigError, printable
from imgcls_jax.evaluation import classifiers
from imgcls_jax.evaluation.calibration import log_probabilities
from imgcls_jax.files import write_npz
from imgcls_jax.training import objectives

log = logging.getLogger(__name__)

CHUNK = 2000  # images between two looks at the progress bar


def taught(config: ConfigDict, data: Splits, file: Path | None = None) -> Splits:
    """The data with the log probabilities of `config.objective.teacher` on the training images, if it names one.

    The images are as they are stored, without augmentation. file: where the probabilities are kept, so that a resumed
    run learns from the same ones. Raises ConfigError where the teacher knows other classes or images.
    """
    objectives.create(config)  # an error before the teacher sets to work
    teacher = (config.get("objective") or {}).get("teacher")
    if not teacher:
        return data
    return _with(data, distributed.from_primary(lambda: _log_probabilities(teacher, data, file)))


def _log_probabilities(teacher: str, data: Splits, file: Path | None) -> np.ndarray:
    """float32 [N, K] of the training images."""
    if file and file.exists():
        with foreign.open_regular(file) as content, np.load(content, allow_pickle=False) as arrays:
            if str(arrays["fingerprint"]) == data.train.fingerprint:
                return arrays["log_probabilities"]
    classifier = classifiers.load(teacher)
    for what, theirs, ours in (
        ("classes", classifier.class_names, data.train.class_names),
        ("images of the shape", classifier.shape, data.train.images.shape[1:]),
    ):
        if tuple(theirs) != tuple(ours):
            raise ConfigError(
                f"The teacher {teacher} (config.objective.teacher) knows {what} {', '.join(map(str, theirs))}; these "
                f"are {', '.join(map(str, ours))}: it cannot teach them."
            )
    log.info("%s looks at the %s training images once.", teacher, f"{len(data.train):,}")
    found = log_probabilities(_probabilities(classifier, data.train.images)).astype(np.float32)
    if file:
        write_npz(file, log_probabilities=found, fingerprint=np.array(data.train.fingerprint))
    return found


def _probabilities(classifier: classifiers.Classifier, images: np.ndarray) -> np.ndarray:
    """As `classifier.probabilities`, with a progress bar."""
    found = []
    with tqdm(
        total=len(images), desc=printable(classifier.name), unit="image", disable=None
    ) as bar:
        for index in filled_batches(len(images), min(CHUNK, len(images))):
            found.append(classifier.probabilities(images[index]))
            bar.update(min(len(index), len(images) - bar.n))
    return np.concatenate(found)[: len(images)]


def _with(data: Splits, log_probabilities: np.ndarray) -> Splits:
    return dataclasses.replace(
        data, train=dataclasses.replace(data.train, teacher=log_probabilities)
    )
