"""Predictions on image files, a batch at a time: of ten thousand files no more than a batch is in memory."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from imgcls_jax.data.image_files import Reader
from imgcls_jax.errors import DataError
from imgcls_jax.evaluation.classifiers import Classifier

TOP = 5  # most classes that a line names


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The prediction of one image.

    path: of its file, or "" for an image from an array. image: uint8 [H, W, C] as the classifier
    got it. probabilities: float64 [K]. inverted: whether light and dark were exchanged. error: why
    the file could not be read; then there is neither image nor class.
    """

    path: str
    image: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    class_name: str = ""
    inverted: bool = False
    error: str = ""

    @property
    def confidence(self) -> float:
        """The probability of the class that is predicted, 0 to 1; 0 if there is an error."""
        return 0.0 if self.probabilities is None else float(self.probabilities.max())

    def line(self, class_names: Sequence[str]) -> dict[str, Any]:
        """JSON-ready; the probabilities to six places, the likeliest class first."""
        if self.error:
            return {"image": self.path, "error": self.error}
        order = np.argsort(-self.probabilities, kind="stable")[:TOP]
        top = [[str(class_names[k]), round(float(self.probabilities[k]), 6)] for k in order]
        return {
            "image": self.path,
            "class": top[0][0],
            "confidence": top[0][1],
            "top": top,
            "inverted": self.inverted,
        }


def classify(classifier: Classifier, files: Sequence[str]) -> Iterator[Prediction]:
    """The prediction of each file, in their order.

    Every batch that the classifier sees has its `batch_size` images, the last one filled up with black ones, so that
    its program is compiled once.
    """
    for start in range(0, len(files), classifier.batch_size):
        paths = files[start : start + classifier.batch_size]
        yield from _classify_batch(classifier, [_read(path, classifier.reader) for path in paths])


def classify_images(classifier: Classifier, images: np.ndarray) -> Iterator[Prediction]:
    """Yields the prediction of each image of an array, uint8 [N, H, W, C], in the same way."""
    for start in range(0, len(images), classifier.batch_size):
        batch = images[start : start + classifier.batch_size]
        yield from _classify_batch(classifier, [Prediction("", image=image) for image in batch])


def _classify_batch(classifier: Classifier, batch: list[Prediction]) -> list[Prediction]:
    """Adds probabilities and classes to the predictions that have an image."""
    images = [prediction.image for prediction in batch if not prediction.error]
    if not images:
        return batch
    filled = np.zeros((classifier.batch_size, *classifier.shape), np.uint8)
    filled[: len(images)] = images
    rows = iter(classifier.probabilities(filled))
    classified = []
    for prediction in batch:
        if not prediction.error:
            probabilities = next(rows)
            class_name = str(classifier.class_names[probabilities.argmax()])
            prediction = dataclasses.replace(
                prediction, probabilities=probabilities, class_name=class_name
            )
        classified.append(prediction)
    return classified


def _read(path: str, reader: Reader) -> Prediction:
    try:
        image, inverted = reader(path)
    except DataError as error:
        return Prediction(path, error=str(error))
    return Prediction(path, image=image, inverted=inverted)
