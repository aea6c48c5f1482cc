"""Heads of the reports on one backbone or several: the hybrid of report A, report D's SE block, report E's head."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from imgcls_jax.errors import ConfigError, choose
from imgcls_jax.models.blocks import SqueezeExcite
from imgcls_jax.models.layers import BatchNorm, Classifier, Dropout

HEADS = {
    "linear": "dense (report D)",
    "fusion": "dense, ReLU, dropout, dense (report A)",
    "normalized": "BatchNorm, dropout, dense, BatchNorm, dropout, dense (report E)",
}


FUSIONS = {
    "concatenated": "side by side (report A)",
    "adaptive": "their mean, by weights that a dense layer gives each image",
    "attention": "side by side, after each has attended to all",
}


class Head(nn.Module):
    """Pooled features [B, F] -> logits [B, K], by one of HEADS."""

    num_classes: int
    kind: str
    hidden: int
    dropout: float
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, *, train: bool):
        drop = Dropout(self.dropout)

        def norm(x):  # Keras' figures, in which report E's was written
            return BatchNorm(momentum=0.99, epsilon=1e-3, dtype=self.dtype)(x, train=train)

        if self.kind == "normalized":
            x = drop(norm(x), train=train)
            x = drop(
                norm(nn.relu(nn.Dense(self.hidden, dtype=self.dtype, name="hidden")(x))),
                train=train,
            )
        elif self.kind == "fusion":
            x = drop(
                nn.relu(nn.Dense(self.hidden, dtype=self.dtype, name="hidden")(x)), train=train
            )
        return nn.Dense(self.num_classes, dtype=self.dtype, name="classifier")(x)


class AdaptiveFusion(nn.Module):
    """Projections of M backbones, each [B, P] -> their mean [B, P], weighted for each image by what all of them say."""

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, projections):
        stacked = jnp.stack(projections, 1)
        scores = nn.Dense(len(projections), dtype=self.dtype, name="gate")(
            jnp.concatenate(projections, -1)
        )
        return (nn.softmax(scores)[..., None] * stacked).sum(1)


class AttentionFusion(nn.Module):
    """Projections of M backbones, each [B, P] -> [B, M P]: each with what one attention head finds in all of them."""

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, projections):
        x = jnp.stack(projections, 1)
        width = x.shape[-1]
        query, key, value = (
            nn.Dense(width, dtype=self.dtype, name=name)(x) for name in ("query", "key", "value")
        )
        scores = nn.softmax(query @ key.swapaxes(1, 2) / width**0.5)
        return (x + scores @ value).reshape(x.shape[0], -1)


class Hybrid(Classifier):
    """One or more backbones that see the same image, and a head on their pooled features side by side.

    `backbones` are names in MODELS; each stands under its name in the parameters, without its own classifier. With `se`
    a squeeze-and-excitation block follows each backbone's last map (report D); with `projection` each one's pooled
    features pass a dense layer of that width (report A), and `fusion` says how these come together: a key of FUSIONS.
    The features of one backbone are its map, of several a tuple of maps.
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
        if (
            not self.backbones
            or len(set(self.backbones)) < len(self.backbones)
            or "hybrid" in self.backbones
        ):
            raise ConfigError(
                f"config.model.backbones is {tuple(self.backbones)}: give one or more names of models, each once."
            )
        choose("fusion (config.model.fusion)", self.fusion, FUSIONS)
        if self.fusion != "concatenated" and (not self.projection or len(self.backbones) < 2):
            raise ConfigError(
                f"config.model.fusion is {self.fusion!r}, of {len(self.backbones)} backbones and a projection of "
                f"{self.projection}: it needs two backbones or more, and config.model.projection, their common width."
            )
        super().__post_init__()

    def setup(self):
        from imgcls_jax.models import MODELS  # where this model stands too

        for name in self.backbones:
            backbone = choose("model (config.model.backbones)", name, MODELS)
            options = dict((self.options or {}).get(name, {}))
            setattr(self, name, backbone(num_classes=self.num_classes, dtype=self.dtype, **options))
        if self.se:
            self.squeeze_excite = [
                Excited(self.se_ratio, dtype=self.dtype, name=f"se_{name}")
                for name in self.backbones
            ]
        if self.projection:
            self.projections = [
                nn.Dense(self.projection, dtype=self.dtype, name=f"projection_{name}")
                for name in self.backbones
            ]
        if self.fusion == "adaptive":
            self.fuse = AdaptiveFusion(dtype=self.dtype)
        elif self.fusion == "attention":
            self.fuse = AttentionFusion(dtype=self.dtype)
        self.top = Head(
            self.num_classes, self.head_kind, self.hidden, self.dropout, dtype=self.dtype
        )

    def features(self, x, *, train: bool = False):
        maps = [getattr(self, name).features(x, train=train) for name in self.backbones]
        if self.se:
            maps = [block(each) for block, each in zip(self.squeeze_excite, maps, strict=True)]
        return maps[0] if len(maps) == 1 else tuple(maps)

    def pool(self, x):
        maps = (x,) if len(self.backbones) == 1 else x
        pooled = [
            getattr(self, name).pool(each) for name, each in zip(self.backbones, maps, strict=True)
        ]
        if self.projection:
            pooled = [dense(each) for dense, each in zip(self.projections, pooled, strict=True)]
        return jnp.concatenate(pooled, -1) if self.fusion == "concatenated" else self.fuse(pooled)

    def head(self, x, *, train: bool = False):
        return self.top(x, train=train)


class Excited(nn.Module):
    """A squeeze-and-excitation block as wide as the map's channels over `ratio`. x [B, h, w, C] -> the same shape."""

    ratio: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        return SqueezeExcite(max(x.shape[-1] // self.ratio, 1), dtype=self.dtype, name="block")(x)
