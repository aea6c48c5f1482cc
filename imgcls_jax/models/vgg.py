"""A small network in the manner of VGG (Simonyan & Zisserman, 2014, arXiv:1409.1556), for report E."""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import linen as nn

from imgcls_jax.errors import ConfigError
from imgcls_jax.models.layers import Classifier, Conv, Dropout, glorot, max_pool


class VGG(Classifier):
    """Blocks of 3x3 convolutions with a 2x2 max pool between blocks, the mean over places, two dense layers; ReLU.

    With `last_pool` the last block ends in a pool too, as in the report. Dropout follows each pool and the hidden
    layer. The report gives ten layers and 403 K parameters; widths and depths of the blocks are ours: with them and
    32x32x3 images 402,058 parameters, with the last pool or without.
    """

    num_classes: int
    blocks: Sequence[int] = (2, 2, 2, 2)
    filters: Sequence[int] = (32, 48, 64, 128)
    hidden: int = 512
    dropout: float = 0.2
    last_pool: bool = False
    dtype: jnp.dtype = jnp.float32

    def __post_init__(self):
        if len(self.blocks) != len(self.filters):
            raise ConfigError(
                f"config.model.blocks is {tuple(self.blocks)} and config.model.filters {tuple(self.filters)}: give as "
                "many of one as of the other."
            )
        super().__post_init__()

    def setup(self):
        self.conv = [
            [
                Conv(filters, (3, 3), kernel_init=glorot, dtype=self.dtype, name=f"conv{block}_{i}")
                for i in range(1, depth + 1)
            ]
            for block, (depth, filters) in enumerate(zip(self.blocks, self.filters, strict=True), 1)
        ]
        self.drop = Dropout(self.dropout)
        self.dense = nn.Dense(self.hidden, kernel_init=glorot, dtype=self.dtype)
        self.classifier = nn.Dense(self.num_classes, kernel_init=glorot, dtype=self.dtype)

    def features(self, x, *, train: bool = False):
        for i, block in enumerate(self.conv):
            if i:
                x = self._shrink(x, train=train)
            for conv in block:
                x = nn.relu(conv(x))
        return self._shrink(x, train=train) if self.last_pool else x

    def _shrink(self, x, *, train: bool):
        return self.drop(max_pool(x, (2, 2)), train=train)

    def head(self, x, *, train: bool = False):
        x = nn.relu(self.dense(x))
        return self.classifier(self.drop(x, train=train))
