"""The single self-attention layer of report B, over the rows of an image."""

import jax.numpy as jnp
from flax import linen as nn

from imgcls_jax.models.classifier import Classifier
from imgcls_jax.models.layers import glorot


class SelfAttention(Classifier):
    """One head of attention between the rows of the image, without position embedding (report B).

    Each row is projected to `width`. Attention is added to it, then LayerNorm; all rows go through
    a dense layer.
    """

    num_classes: int
    width: int = 64
    hidden: int = 128
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        self.embed = self._dense(self.width)
        self.query = self._dense(self.width)
        self.key = self._dense(self.width)
        self.value = self._dense(self.width)
        self.norm = nn.LayerNorm(epsilon=1e-3, dtype=self.dtype)  # Keras' epsilon
        self.dense = self._dense(self.hidden)
        self.classifier = self._dense(self.num_classes)

    def _dense(self, features: int) -> nn.Dense:
        return nn.Dense(features, kernel_init=glorot, dtype=self.dtype)

    def features(self, x, *, train: bool = False):
        batch, height, *_ = x.shape
        rows = self.embed(x.reshape(batch, height, -1))
        query = self.query(rows)
        key = self.key(rows)
        scale = jnp.sqrt(self.width).astype(self.dtype)
        scores = query @ key.swapaxes(1, 2) / scale
        attended = nn.softmax(scores) @ self.value(rows)
        return self.norm(rows + attended)

    def pool(self, x):
        return x.reshape(x.shape[0], -1)

    def head(self, x, *, train: bool = False):
        x = nn.relu(self.dense(x))
        return self.classifier(x)
