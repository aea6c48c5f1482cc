"""One or several backbones under one head.

These are the hybrid of report A, report D's SE block, and report E's head.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from imgcls_jax.errors import ConfigError, choose
from imgcls_jax.models.classifier import Classifier
from imgcls_jax.models.layers import BatchNorm, Dropout, SqueezeExcite, glorot, lecun

HEADS = {
    "linear": "dense (report D)",
    "fusion": "dense, ReLU, dropout, dense (report A)",
    "normalized": "BatchNorm, dropout, dense, BatchNorm, dropout, dense (report E)",
}
FUSIONS = {
    "concatenated": "side by side (report A)",
    "adaptive": "their mean, with weights that a dense layer gives each image",
    "attention": "side by side, after each has attended to all",
}


class Hybrid(Classifier):
    """Backbones that take the same image, and a head on their pooled features.

    `backbones` are names in MODELS. The parameters of each are under its name, without those of its
    own classifier. With `se` a squeeze-and-excitation block follows the last map of each backbone
    (report D). With `projection` a dense layer of that width follows the pooled features of each
    (report A). `fusion`, a key of FUSIONS, says how they are combined. `features` returns the map
    of one backbone, or a tuple with the maps of several.
    """

    num_classes: int
    backbones: Sequence[str] = ("resnet18", "googlenet")
    se: bool = False
    se_ratio: int = 16
    projection: int = 0
    fusion: str = "concatenated"
    head_kind: str = "linear"
    hidden: int = 256
    dropout: float = 0.5
    options: Any = None  # of the backbones, by their names
    dtype: jnp.dtype = jnp.float32

    def __post_init__(self):
        choose("head (config.model.head_kind)", self.head_kind, HEADS)
        names = tuple(self.backbones)
        has_duplicates = len(set(names)) < len(names)
        if not names or has_duplicates or "hybrid" in names:
            raise ConfigError(
                f"config.model.backbones is {names}: give one or more names of models, each once, "
                "without 'hybrid'."
            )
        choose("fusion (config.model.fusion)", self.fusion, FUSIONS)
        if self.fusion != "concatenated" and (len(names) < 2 or not self.projection):
            raise ConfigError(
                f"config.model.fusion is {self.fusion!r} of {len(names)} backbones with a "
                f"projection of {self.projection}: give at least two backbones, and "
                "config.model.projection, their common width."
            )
        super().__post_init__()

    def setup(self):
        self.encoders = [self._backbone(name) for name in self.backbones]
        if self.se:
            blocks = []
            for name in self.backbones:
                block = MapSqueezeExcite(self.se_ratio, dtype=self.dtype, name=f"se_{name}")
                blocks.append(block)
            self.squeeze_excite = blocks
        if self.projection:
            projections = []
            for name in self.backbones:
                dense = nn.Dense(self.projection, dtype=self.dtype, name=f"projection_{name}")
                projections.append(dense)
            self.projections = projections
        if self.fusion == "adaptive":
            self.fuse = AdaptiveFusion(dtype=self.dtype)
        elif self.fusion == "attention":
            self.fuse = AttentionFusion(dtype=self.dtype)
        self.top = Head(
            self.num_classes, self.head_kind, self.hidden, self.dropout, dtype=self.dtype
        )

    def _backbone(self, name: str) -> nn.Module:
        from imgcls_jax.models import MODELS  # not at the top: that table has this model too

        constructor = choose("model (config.model.backbones)", name, MODELS)
        options = dict((self.options or {}).get(name, {}))
        return constructor(num_classes=self.num_classes, dtype=self.dtype, name=name, **options)

    def features(self, x, *, train: bool = False):
        maps = [encoder.features(x, train=train) for encoder in self.encoders]
        if self.se:
            for i, block in enumerate(self.squeeze_excite):
                maps[i] = block(maps[i])
        if len(maps) == 1:
            return maps[0]
        return tuple(maps)

    def pool(self, x):
        maps = x
        if len(self.backbones) == 1:
            maps = (x,)
        pooled = []
        for encoder, feature_map in zip(self.encoders, maps, strict=True):
            pooled.append(encoder.pool(feature_map))
        if self.projection:
            for i, dense in enumerate(self.projections):
                pooled[i] = dense(pooled[i])
        if self.fusion == "concatenated":
            return jnp.concatenate(pooled, -1)
        return self.fuse(pooled)

    def head(self, x, *, train: bool = False):
        return self.top(x, train=train)


class Head(nn.Module):
    """Pooled features [B, F] -> logits [B, num_classes], by one of HEADS."""

    num_classes: int
    kind: str
    hidden: int
    dropout: float
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, *, train: bool):
        drop = Dropout(self.dropout)
        if self.kind == "normalized":
            x = drop(self._norm(x, train), train=train)
            x = nn.relu(self._dense(self.hidden, "hidden")(x))
            x = drop(self._norm(x, train), train=train)
        elif self.kind == "fusion":
            x = nn.relu(self._dense(self.hidden, "hidden")(x))
            x = drop(x, train=train)
        return self._dense(self.num_classes, "classifier")(x)

    # Report E's head was written in Keras, and has its figures and initial weights.

    def _norm(self, x, train: bool):
        return BatchNorm(momentum=0.99, epsilon=1e-3, dtype=self.dtype)(x, train=train)

    def _dense(self, features: int, name: str):
        initializer = lecun
        if self.kind == "normalized":
            initializer = glorot
        return nn.Dense(features, kernel_init=initializer, dtype=self.dtype, name=name)


class AdaptiveFusion(nn.Module):
    """Projections of M backbones, [B, P] each -> their weighted mean [B, P].

    A dense layer that gets all projections gives each image its weights.
    """

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, projections):
        stacked = jnp.stack(projections, 1)
        gate = nn.Dense(len(projections), dtype=self.dtype, name="gate")
        scores = gate(jnp.concatenate(projections, -1))
        weights = nn.softmax(scores)[..., None]
        return (weights * stacked).sum(1)


class AttentionFusion(nn.Module):
    """Projections of M backbones, [B, P] each -> [B, M P].

    One head of attention over the M projections of an image is added to them.
    """

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, projections):
        x = jnp.stack(projections, 1)
        batch_size, _, width = x.shape

        def dense(name: str) -> nn.Dense:
            return nn.Dense(width, dtype=self.dtype, name=name)

        query = dense("query")(x)
        key = dense("key")(x)
        value = dense("value")(x)
        scores = query @ key.swapaxes(1, 2) / width**0.5
        x = x + nn.softmax(scores) @ value
        return x.reshape(batch_size, -1)


class MapSqueezeExcite(nn.Module):
    """Squeeze and excitation with a width of the map's channels over `ratio`.

    x [B, h, w, C] -> the same shape.
    """

    ratio: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        squeezed = max(x.shape[-1] // self.ratio, 1)
        return SqueezeExcite(squeezed, dtype=self.dtype, name="block")(x)
