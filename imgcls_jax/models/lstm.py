"""The recurrent network of report B, which reads an image row by row."""

import jax.numpy as jnp
from flax import linen as nn

from imgcls_jax.models.layers import LSTM, Classifier, glorot


class LSTMClassifier(Classifier):
    """An LSTM over the rows of the image, its last state through two dense layers (report B)."""

    num_classes: int
    units: int = 128
    hidden: int = 64
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        self.lstm = LSTM(self.units, dtype=self.dtype, forget_bias=1.0)
        self.dense = nn.Dense(self.hidden, kernel_init=glorot, dtype=self.dtype)
        self.classifier = nn.Dense(self.num_classes, kernel_init=glorot, dtype=self.dtype)

    def features(self, x, *, train: bool = False):
        rows = x.reshape(*x.shape[:2], -1)
        return self.lstm(rows)[:, -1]

    def head(self, x, *, train: bool = False):
        return self.classifier(nn.relu(self.dense(x)))
