"""A published model with its own classifier: ImageNet's 1,000 classes, without training."""

from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from imgcls_jax import models, pretrained
from imgcls_jax.data.image_files import Reader
from imgcls_jax.data.image_ops import Resize
from imgcls_jax.data.transforms import parse
from imgcls_jax.errors import ConfigError
from imgcls_jax.evaluation.scores import softmax
from imgcls_jax.pretrained import CATALOG
from imgcls_jax.training import steps

CLASSES = Path(pretrained.__file__).with_name(
    "imagenet_classes.txt"
)  # a name a line, in the order of the outputs


class PublishedClassifier:
    """The weights of a name in the catalogue, as `evaluation.classifiers.Classifier` has it.

    People's images are cut to squares around their middle, of the side to which the weights'
    preprocessing resizes. Raises ConfigError for weights without a classifier, and DataError where
    the file cannot be had.
    """

    batch_size = 8  # a photo or two is the usual case, and each batch is filled up

    def __init__(self, name: str):
        weights = CATALOG[name]
        if not weights.classes:
            others = ", ".join(other for other, row in CATALOG.items() if row.classes)
            raise ConfigError(
                f"The weights {name} have no classifier of their own. Those with one: {others}."
            )
        self.name = name
        self.class_names = tuple(CLASSES.read_text().splitlines())
        transform = parse(weights.transform)
        side = next(op.size for op in transform.ops if isinstance(op, Resize))
        self.shape = (side, side, 3)
        self.reader = Reader(self.shape)
        config = ConfigDict({"name": weights.model, **weights.options})
        model = models.create(config, num_classes=weights.classes)
        image = jax.eval_shape(transform, jax.ShapeDtypeStruct((1, *self.shape), np.uint8))
        expected = jax.eval_shape(model.init, jax.random.key(0), image)
        self._variables = steps.replicate(
            pretrained.load(name, model=weights.model, expected=expected)
        )
        self._predict = steps.make_predict(model, transform, batch_size=self.batch_size)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """images uint8 [N, H, W, 3] -> probabilities float64 [N, 1000]."""
        return softmax(self._predict(self._variables, steps.place_images(images, budget=None)))
