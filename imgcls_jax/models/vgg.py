"""Report E's small network in the manner of VGG (Simonyan & Zisserman, 2014, arXiv:1409.1556)."""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import linen as nn

from imgcls_jax.errors import ConfigError
from imgcls_jax.models.classifier import Classifier
from imgcls_jax.models.layers import Conv, Dropout, glorot, max_pool


class VGG(Classifier):
    """Blocks of 3x3 convolutions with ReLU, and a 2x2 max pool between blocks.

    The mean over positions and two dense layers follow.

    With `last_pool` the last block ends in a pool too, as in the report. Dropout follows each pool
    and the hidden layer. The report gives ten layers and 403 K parameters; widths and depths of the
    blocks are our choice. With them and 32x32x3 images there are 402,058 parameters, with the last
    pool or without.
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
                f"config.model.blocks is {tuple(self.blocks)} and config.model.filters "
                f"{tuple(self.filters)}: give one number of filters for each block."
            )
        super().__post_init__()

    def setup(self):
        blocks = []
        for number, depth in enumerate(self.blocks, 1):
            features = self.filters[number - 1]
            block = []
            for i in range(1, depth + 1):
                name = f"conv{number}_{i}"
                conv = Conv(features, (3, 3), kernel_init=glorot, dtype=self.dtype, name=name)
                block.append(conv)
            blocks.append(block)
        self.conv = blocks
        self.drop = Dropout(self.dropout)
        self.dense = nn.Dense(self.hidden, kernel_init=glorot, dtype=self.dtype)
        self.classifier = nn.Dense(self.num_classes, kernel_init=glorot, dtype=self.dtype)

    def features(self, x, *, train: bool = False):
        for i, block in enumerate(self.conv):
            if i > 0:
                x = self._downsample(x, train=train)
            for conv in block:
                x = nn.relu(conv(x))
        if self.last_pool:
            x = self._downsample(x, train=train)
        return x

    def _downsample(self, x, *, train: bool):
        return self.drop(max_pool(x, (2, 2)), train=train)

    def head(self, x, *, train: bool = False):
        x = nn.relu(self.dense(x))
        x = self.drop(x, train=train)
        return self.classifier(x)
