"""SimCLR (Chen et al., 2020, arXiv:2002.05709): a backbone with a classifier and a projection."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from imgcls_jax.errors import ConfigError, choose
from imgcls_jax.models.classifier import Classifier


class SimCLR(Classifier):
    """The features of any model with a linear classifier, and `project` for the objective `simclr`.

    `backbone` is a name in MODELS, `options` are those of that model. Its parameters are under
    "backbone", without those of its own classifier.
    """

    num_classes: int
    backbone: str = "resnet20"
    projection: int = 128  # length of the vectors that are compared
    options: Any = None
    dtype: jnp.dtype = jnp.float32

    def __post_init__(self):
        if self.backbone in ("hybrid", "simclr"):
            raise ConfigError(
                f"config.model.backbone is {self.backbone!r}, which cannot be a backbone: "
                "give another model's name."
            )
        super().__post_init__()

    def setup(self):
        from imgcls_jax.models import MODELS  # not at the top: that table has this model too

        backbone = choose("model (config.model.backbone)", self.backbone, MODELS)
        options = dict(self.options or {})
        self._backbone = backbone(
            num_classes=self.num_classes, dtype=self.dtype, name="backbone", **options
        )
        self.projector = Projector(self.projection, dtype=self.dtype)
        self.classifier = nn.Dense(self.num_classes, dtype=self.dtype)

    def features(self, x, *, train: bool = False):
        return self._backbone.features(x, train=train)

    def pool(self, x):
        return self._backbone.pool(x)

    def project(self, x, *, train: bool = False):
        """Returns the projections [B, projection] of pooled features [B, F]."""
        return self.projector(x)

    def head(self, x, *, train: bool = False):
        if self.is_initializing():
            self.project(x)  # creates its parameters too
        return self.classifier(x)


class Projector(nn.Module):
    """Dense, ReLU, dense: x [B, F] -> [B, width], with a hidden layer of F units."""

    width: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        hidden = nn.Dense(x.shape[-1], dtype=self.dtype, name="hidden")
        out = nn.Dense(self.width, dtype=self.dtype, name="out")
        return out(nn.relu(hidden(x)))
