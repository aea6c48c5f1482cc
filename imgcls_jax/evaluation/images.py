"""Predictions for image files, with no more than one batch of images in memory.

CSV and .npz files hold many images each, and are read whole.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from imgcls_jax.data import array_files
from imgcls_jax.data.image_files import Reader
from imgcls_jax.errors import DataError
from imgcls_jax.evaluation.classifiers import Classifier
from imgcls_jax.evaluation.unknown import CautiousPredictor, Judgement

TOP_K = 5  # classes in the JSON of a prediction, at most


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The prediction for one image.

    path: of its file, or "" for an image from an array. row: the number of the image, from 1, in a
    CSV or .npz file; 0 for an image with a file of its own. image: uint8 [H, W, C], as the
    classifier got it. label: the number of its class, where a CSV or .npz file says it.
    probabilities: float64 [K]. inverted: whether the reader inverted the image. error: why the file
    could not be read; then there is neither image nor class.

    A run for which `imgcls unknown` was called also gives strangeness (higher is stranger),
    is_unknown, whether that is above the run's threshold, and the names of the classes of which one
    is the true one at the coverage asked, most probable first.
    """

    path: str
    row: int = 0
    label: int | None = None
    image: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    class_name: str = ""
    inverted: bool = False
    error: str = ""
    strangeness: float | None = None
    is_unknown: bool = False
    classes: tuple[str, ...] = ()

    @property
    def confidence(self) -> float:
        """The probability of the predicted class, 0 to 1; 0 if there is an error."""
        if self.probabilities is None:
            return 0.0
        return float(self.probabilities.max())

    def to_json(self, class_names: Sequence[str]) -> dict[str, Any]:
        """Returns a JSON-ready dict with the most probable classes, most probable first."""
        content: dict[str, Any] = {"image": self.path}
        if self.row:
            content["row"] = self.row
        if self.error:
            return content | {"error": self.error}
        top = []
        for name, probability in most_probable(self.probabilities, class_names):
            top.append([name, round(probability, 6)])
        class_name, confidence = top[0]
        content |= {
            "class": class_name,
            "confidence": confidence,
            "top": top,
            "inverted": self.inverted,
        }
        if self.strangeness is not None:
            content["strangeness"] = self.strangeness
            content["unknown"] = self.is_unknown
            content["classes"] = list(self.classes)
        return content


def most_probable(probabilities: np.ndarray, class_names: Sequence[str]) -> list[tuple[str, float]]:
    """Returns the TOP_K most probable classes of an image, most probable first.

    probabilities: [K]. Of equally probable classes the first counts as more probable.
    """
    most_probable_first = np.argsort(-probabilities, kind="stable")
    return [(str(class_names[k]), float(probabilities[k])) for k in most_probable_first[:TOP_K]]


def classify(classifier: Classifier, files: Sequence[str]) -> Iterator[Prediction]:
    """Yields the prediction for each image of the files, in order.

    Every batch has the classifier's `batch_size` images, so that its program is compiled only once:
    the last one is filled up with black images.
    """
    return _classify_all(classifier, _read_all(files, classifier))


def classify_images(classifier: Classifier, images: np.ndarray) -> Iterator[Prediction]:
    """Yields the prediction for each image of an array, uint8 [N, H, W, C], like `classify`."""
    return _classify_all(classifier, (Prediction("", image=image) for image in images))


def _classify_all(classifier: Classifier, images: Iterator[Prediction]) -> Iterator[Prediction]:
    while batch := list(itertools.islice(images, classifier.batch_size)):
        yield from _classify_batch(classifier, batch)


def _read_all(files: Sequence[str], classifier: Classifier) -> Iterator[Prediction]:
    """Yields the images of the files, or why a file could not be read, without probabilities."""
    for path in files:
        if array_files.is_array_file(path):
            yield from _read_rows(path, classifier)
        else:
            yield _read(path, classifier.reader)


def _classify_batch(classifier: Classifier, batch: list[Prediction]) -> list[Prediction]:
    """Returns the batch with probabilities and class names for all that have an image."""
    readable = [prediction for prediction in batch if not prediction.error]
    if not readable:
        return batch
    images = np.zeros((classifier.batch_size, *classifier.shape), np.uint8)
    for row, prediction in enumerate(readable):
        images[row] = prediction.image
    results = _results(classifier, images)
    classified = []
    for prediction in batch:
        if not prediction.error:
            prediction = dataclasses.replace(prediction, **next(results))
        classified.append(prediction)
    return classified


def _results(classifier: Classifier, images: np.ndarray) -> Iterator[dict[str, Any]]:
    """Yields what the classifier says of each image, as fields of its prediction."""
    judgement = None
    if isinstance(classifier, CautiousPredictor):
        judgement = classifier.judge(images)
        probabilities = judgement.probabilities
    else:
        probabilities = classifier.probabilities(images)
    for row, image_probabilities in enumerate(probabilities):
        class_name = classifier.class_names[image_probabilities.argmax()]
        fields = {"probabilities": image_probabilities, "class_name": str(class_name)}
        if judgement:
            fields |= _judged(judgement, row, classifier.class_names)
        yield fields


def _judged(judgement: Judgement, row: int, class_names: Sequence[str]) -> dict[str, Any]:
    most_probable_first = np.argsort(-judgement.probabilities[row], kind="stable")
    in_set = judgement.sets[row, most_probable_first]
    return {
        "strangeness": float(judgement.strangeness[row]),
        "is_unknown": bool(judgement.is_unknown[row]),
        "classes": tuple(str(class_names[k]) for k in most_probable_first[in_set]),
    }


def _read(path: str, reader: Reader) -> Prediction:
    try:
        image, inverted = reader(path)
    except DataError as error:
        return Prediction(path, error=str(error))
    return Prediction(path, image=image, inverted=inverted)


def _read_rows(path: str, classifier: Classifier) -> Iterator[Prediction]:
    try:
        images, labels = array_files.read(path, classifier.shape, classifier.class_names)
    except DataError as error:
        yield Prediction(path, error=str(error))
        return
    for index, image in enumerate(images):
        label = None
        if labels is not None:
            label = int(labels[index])
        yield Prediction(path, row=index + 1, label=label, image=image)
