"""A backbone with a projection beside its classifier: SimCLR (Chen et al., 2020, arXiv:2002.05709)."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from imgcls_jax.errors import ConfigError, choose
from imgcls_jax.models.layers import Classifier


class SimCLR(Classifier):
    """Any model's features with a linear classifier, and `project`, which the objective `simclr` compares.

    `backbone` is a name in MODELS, `options` are its own; it stands under "backbone" in the parameters, without its own
    classifier.
    """

    num_classes: int
    backbone: str = "resnet20"
    projection: int = 128  # length of the vectors that are compared
    options: Any = None
    dtype: jnp.dtype = jnp.float32

    def __post_init__(self):
        if self.backbone in ("hybrid", "simclr"):
            raise ConfigError(
                f"config.model.backbone is {self.backbone!r}: give the name of a model with features."
            )
        super().__post_init__()

    def setup(self):
        from imgcls_jax.models import MODELS  # where this model stands too

        backbone = choose("model (config.model.backbone)", self.backbone, MODELS)
        self._backbone = backbone(
            num_classes=self.num_classes,
            dtype=self.dtype,
            name="backbone",
            **dict(self.options or {}),
        )
        self.projector = Projector(self.projection, dtype=self.dtype)
        self.classifier = nn.Dense(self.num_classes, dtype=self.dtype)

    def features(self, x, *, train: bool = False):
        return self._backbone.features(x, train=train)

    def pool(self, x):
        return self._backbone.pool(x)

    def project(self, x, *, train: bool = False):
        """Encoded images [B, F] -> [B, projection]."""
        return self.projector(x)

    def head(self, x, *, train: bool = False):
        if self.is_initializing():
            self.project(x)
        return self.classifier(x)


class Projector(nn.Module):
    """Dense, ReLU, dense: [B, F] -> [B, width], by a hidden layer of F."""

    width: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        hidden = nn.relu(nn.Dense(x.shape[-1], dtype=self.dtype, name="hidden")(x))
        return nn.Dense(self.width, dtype=self.dtype, name="out")(hidden)
