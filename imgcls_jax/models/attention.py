"""The single self-attention layer of report B, over the rows of an image."""

import jax.numpy as jnp
from flax import linen as nn

from imgcls_jax.models.layers import Classifier, glorot


class SelfAttention(Classifier):
    """One head of attention between the rows of the image, without position embedding (report B).

    Each row is projected to `width`; attention is added to it and normalised; all rows then go through a dense layer.
    """

    num_classes: int
    width: int = 64
    hidden: int = 128
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        def dense(features: int) -> nn.Dense:
            return nn.Dense(features, kernel_init=glorot, dtype=self.dtype)

        self.embed, self.query, self.key, self.value = (dense(self.width) for _ in range(4))
        self.norm = nn.LayerNorm(epsilon=1e-3, dtype=self.dtype)  # Keras' epsilon
        self.dense = dense(self.hidden)
        self.classifier = dense(self.num_classes)

    def features(self, x, *, train: bool = False):
        rows = self.embed(x.reshape(*x.shape[:2], -1))
        scores = (
            self.query(rows)
            @ self.key(rows).swapaxes(1, 2)
            / jnp.sqrt(self.width).astype(self.dtype)
        )
        attended = nn.softmax(scores) @ self.value(rows)
        return self.norm(rows + attended)

    def pool(self, x):
        return x.reshape(x.shape[0], -1)

    def head(self, x, *, train: bool = False):
        return self.classifier(nn.relu(self.dense(x)))
