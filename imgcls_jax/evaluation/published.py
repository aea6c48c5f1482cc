"""A published model with its original classifier: ImageNet's 1,000 classes, without training."""

from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from imgcls_jax import models, pretrained
from imgcls_jax.data.image_files import Reader
from imgcls_jax.data.image_ops import Resize
from imgcls_jax.data.transforms import Transform, parse
from imgcls_jax.errors import ConfigError
from imgcls_jax.evaluation.scores import softmax
from imgcls_jax.pretrained import CATALOG
from imgcls_jax.training.dispatch import make_predict
from imgcls_jax.training.inputs import place_images
from imgcls_jax.training.parallel import replicate

BATCH_SIZE = 8  # One or two photos are usual, and every batch is filled up.
# A class name a line, in the order of the model's outputs.
CLASSES = Path(pretrained.__file__).with_name("imagenet_classes.txt")


class PublishedClassifier:
    """A `classifiers.Classifier` with the weights of a name in the catalog.

    batch_size: images at a time; None for BATCH_SIZE.
    model, transform, variables: as of `predict.Predictor`.

    Image files are cropped to a centred square and resized to the size that the weights'
    preprocessing resizes to. Raises ConfigError if the weights have no classifier, and DataError
    if their file cannot be obtained.
    """

    def __init__(self, name: str, *, batch_size: int | None = None):
        self.batch_size = batch_size or BATCH_SIZE
        weights = CATALOG[name]
        if not weights.classes:
            with_classifier = []
            for other, row in CATALOG.items():
                if row.classes:
                    with_classifier.append(other)
            raise ConfigError(
                f"The weights {name} have no classifier of their own. Those with one: "
                f"{', '.join(with_classifier)}."
            )
        self.name = name
        self.class_names = tuple(CLASSES.read_text().splitlines())
        self.transform = parse(weights.transform)
        side = _resized_side(self.transform)
        self.shape = (side, side, 3)
        self.reader = Reader(self.shape)
        config = ConfigDict({"name": weights.model, **weights.options})
        self.model = models.create(config, num_classes=weights.classes)
        images = jax.ShapeDtypeStruct((1, *self.shape), np.uint8)
        image = jax.eval_shape(self.transform, images)
        expected = jax.eval_shape(self.model.init, jax.random.key(0), image)
        self.variables = pretrained.load(name, model=weights.model, expected=expected)
        self._placed_variables = replicate(self.variables)
        self._predict = make_predict(self.model, self.transform, batch_size=self.batch_size)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Returns probabilities float64 [N, 1000] of images uint8 [N, H, W, 3]."""
        placed = place_images(images, budget=None)
        return softmax(self._predict(self._placed_variables, placed))


def _resized_side(transform: Transform) -> int:
    """Returns the side of the squares that the transform resizes to, in pixels."""
    resizing = [op for op in transform.ops if isinstance(op, Resize)]
    return resizing[0].size
