"""The small convolutional network of reports B and E."""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import linen as nn

from imgcls_jax.models.classifier import Classifier
from imgcls_jax.models.layers import Conv, Dropout, glorot, max_pool


class CNN(Classifier):
    """3x3 convolutions with 2x2 max pools between them, then two dense layers (report B).

    Activations are ReLU; there is no padding.

    With the filters of the report and 28x28x1 images: 93,322 parameters. Dropout follows the hidden
    dense layer.
    """

    num_classes: int
    filters: Sequence[int] = (32, 64, 64)
    hidden: int = 64
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        convolutions = []
        for features in self.filters:
            conv = Conv(features, (3, 3), padding="VALID", kernel_init=glorot, dtype=self.dtype)
            convolutions.append(conv)
        self.conv = convolutions
        self.dense = nn.Dense(self.hidden, kernel_init=glorot, dtype=self.dtype)
        self.drop = Dropout(self.dropout)
        self.classifier = nn.Dense(self.num_classes, kernel_init=glorot, dtype=self.dtype)

    def features(self, x, *, train: bool = False):
        for i, conv in enumerate(self.conv):
            if i > 0:
                x = max_pool(x, (2, 2))
            x = nn.relu(conv(x))
        return x

    def pool(self, x):
        return x.reshape(x.shape[0], -1)

    def head(self, x, *, train: bool = False):
        x = nn.relu(self.dense(x))
        x = self.drop(x, train=train)
        return self.classifier(x)
