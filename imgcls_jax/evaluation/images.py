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
    """Of one file: image uint8 [H, W, C] as the classifier got it and probabilities [K], or why it was not read."""

    path: str
    image: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    inverted: bool = False
    error: str = ""

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
        batch = [
            _read(path, classifier.reader) for path in files[start : start + classifier.batch_size]
        ]
        images = [each.image for each in batch if not each.error]
        if images:
            filled = np.zeros((classifier.batch_size, *classifier.shape), np.uint8)
            filled[: len(images)] = images
            found = iter(classifier.probabilities(filled))
            batch = [
                each if each.error else dataclasses.replace(each, probabilities=next(found))
                for each in batch
            ]
        yield from batch


def _read(path: str, reader: Reader) -> Prediction:
    try:
        image, inverted = reader(path)
    except DataError as error:
        return Prediction(path, error=str(error))
    return Prediction(path, image=image, inverted=inverted)
