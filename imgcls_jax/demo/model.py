"""What the page shows of an image: classes, confidence, the model's input, and a map."""

import io
import threading
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
from PIL import Image

from imgcls_jax.errors import DataError, RunError
from imgcls_jax.evaluation import calibration, classifiers, gradcam
from imgcls_jax.evaluation.classifiers import Classifier
from imgcls_jax.evaluation.ensemble import EnsemblePredictor
from imgcls_jax.evaluation.export import ExportedClassifier
from imgcls_jax.evaluation.images import Prediction, classify_images, most_probable
from imgcls_jax.evaluation.predict import Predictor
from imgcls_jax.evaluation.published import PublishedClassifier
from imgcls_jax.foreign import open_image
from imgcls_jax.reporting import formats, page
from imgcls_jax.reporting.plots.explanation import overlay
from imgcls_jax.run.folder import RunFolder

MAX_PIXELS = 2**26  # of an image: it takes up to 24 bytes a pixel while it is read
METHOD = "gradcam"

Explain = Callable[[np.ndarray, np.ndarray], jax.Array]  # as of `gradcam.make_explain`


class DemoModel:
    """A classifier that answers one image at a time; requests of several threads take turns.

    Its programs are compiled when it is made. temperature: at which the classifier's confidences
    are calibrated; None if it is not known.
    """

    def __init__(self, classifier: Classifier, *, temperature: float | None = None):
        self.classifier = classifier
        self.temperature = temperature
        self._explain = _make_explain(classifier)
        self._lock = threading.Lock()
        self._answer(np.zeros(classifier.shape, np.uint8))

    @property
    def has_maps(self) -> bool:
        return self._explain is not None

    def classify(self, content: bytes) -> dict[str, Any]:
        """Returns what the page shows of the image in a file's content, ready for JSON.

        classes: the most probable ones, most probable first, each with its name, its share (0 to
        1), and that share as text. seen, map: pictures as data URIs, of the image as the model got
        it and of Grad-CAM for the first class; map is "" for a model without maps. inverted:
        whether light and dark were exchanged. flag: why the answer is doubtful, or "".

        Raises DataError if the content cannot be read as an image, and RunError if the model gives
        figures that are not finite.
        """
        with self._lock:
            _check_size(content)
            image, inverted = self.classifier.reader(io.BytesIO(content))
            return self._answer(image) | {"inverted": inverted}

    def _answer(self, image: np.ndarray) -> dict[str, Any]:
        (prediction,) = classify_images(self.classifier, image[None])
        probabilities = prediction.probabilities
        if self.temperature is not None:
            probabilities = calibration.apply_temperature(probabilities[None], self.temperature)[0]
        return {
            "classes": _rows(most_probable(probabilities, self.classifier.class_names)),
            "seen": _data_uri(image),
            "map": self._map(prediction),
            "flag": _flag(prediction),
        }

    def _map(self, prediction: Prediction) -> str:
        if self._explain is None:
            return ""
        predicted = prediction.probabilities.argmax()
        (heat,) = self._explain(prediction.image[None], np.array([predicted]))
        return _data_uri(overlay(prediction.image, np.asarray(heat)))


def load(path: str) -> DemoModel:
    """Loads what `classifiers.load` loads, for a batch of one image a device."""
    classifier = classifiers.load(path, batch_size=jax.local_device_count())
    return DemoModel(classifier, temperature=_temperature(classifier, path))


def _temperature(classifier: Classifier, path: str) -> float | None:
    if isinstance(classifier, ExportedClassifier):
        return classifier.temperature
    if isinstance(classifier, Predictor | EnsemblePredictor):
        return calibration.best_temperature(RunFolder(path))
    return None


def _make_explain(classifier: Classifier) -> Explain | None:
    """Returns `gradcam.make_explain` for a single model with feature maps, else None."""
    if not isinstance(classifier, Predictor | PublishedClassifier):
        return None
    try:
        return gradcam.make_explain(classifier, method=METHOD)
    except RunError:
        return None


def _check_size(content: bytes) -> None:
    """Raises DataError for an image of more than MAX_PIXELS, before its pixels are read."""
    try:
        with open_image(io.BytesIO(content)) as image:
            pixels = image.width * image.height
    except Exception:  # The reader says why it cannot be read.
        return
    if pixels > MAX_PIXELS:
        raise DataError(
            f"The image has {pixels / 1e6:,.0f} million pixels. At most {MAX_PIXELS / 1e6:.0f} "
            "million are read: scale it down."
        )


def _rows(classes: Iterable[tuple[str, float]]) -> list[dict[str, Any]]:
    rows = []
    for name, share in classes:
        rows.append({"name": name, "share": share, "text": formats.confidence(share)})
    return rows


def _flag(prediction: Prediction) -> str:
    """Returns why the answer is doubtful, "" if nothing says so.

    Only runs for which `imgcls unknown` was called say so.
    """
    if not prediction.is_unknown:
        return ""
    return "This image is unlike those of the run: it may show none of the classes."


def _data_uri(pixels: np.ndarray) -> str:
    """Returns the image uint8 [H, W, C] as a PNG in a data URI."""
    if pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png")
    return page.data_uri("png", buffer.getvalue())
