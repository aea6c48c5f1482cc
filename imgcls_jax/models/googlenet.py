"""GoogLeNet (Szegedy et al., 2014, arXiv:1409.4842) as torchvision has it.

It has BatchNorm and no auxiliary heads.
"""

import jax.numpy as jnp
from flax import linen as nn

from imgcls_jax.models.classifier import Classifier
from imgcls_jax.models.layers import (
    ConvNorm,
    Dropout,
    ceil_max_pool,
    from_imagenet_statistics,
    max_pool,
)

EPSILON = 1e-3
MOMENTUM = 0.9

# Channels of the four branches: 1x1; 1x1 and 3x3; 1x1 and 3x3 (the paper's 5x5); pooled and 1x1.
INCEPTIONS = {
    "inception3a": (64, 96, 128, 16, 32, 32),
    "inception3b": (128, 128, 192, 32, 96, 64),
    "inception4a": (192, 96, 208, 16, 48, 64),
    "inception4b": (160, 112, 224, 24, 64, 64),
    "inception4c": (128, 128, 256, 24, 64, 64),
    "inception4d": (112, 144, 288, 32, 64, 64),
    "inception4e": (256, 160, 320, 32, 128, 128),
    "inception5a": (256, 160, 320, 32, 128, 128),
    "inception5b": (384, 192, 384, 48, 128, 128),
}
POOL_BEFORE = {"inception3a": 3, "inception4a": 3, "inception5a": 2}  # window; strides are 2


class Inception(nn.Module):
    """Four branches side by side: x [B, H, W, C] -> [B, H, W, sum of the branches' channels]."""

    channels: tuple[int, ...]  # a row of INCEPTIONS
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, *, train: bool):
        def conv(x, name: str, features: int, kernel_size: int = 1):
            layer = conv_norm(features, kernel_size, dtype=self.dtype, name=name)
            return layer(x, train=train)

        features1, reduced2, features2, reduced3, features3, features4 = self.channels
        branch1 = conv(x, "branch1", features1)
        branch2 = conv(x, "branch2_0", reduced2)
        branch2 = conv(branch2, "branch2_1", features2, 3)
        branch3 = conv(x, "branch3_0", reduced3)
        branch3 = conv(branch3, "branch3_1", features3, 3)
        branch4 = max_pool(x, (3, 3), (1, 1), "SAME")
        branch4 = conv(branch4, "branch4_1", features4)
        return jnp.concatenate([branch1, branch2, branch3, branch4], -1)


class GoogLeNet(Classifier):
    """Images [B, H, W, 3] -> a map [B, H / 32, W / 32, 1024] -> logits [B, num_classes].

    `transform_input` turns images that are normalised by ImageNet's mean and deviation into (pixel
    - 0.5) / 0.5, on which torchvision's pretrained weights were trained.
    """

    num_classes: int
    dropout: float = 0.2
    transform_input: bool = False
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        self.conv1 = conv_norm(64, 7, 2, dtype=self.dtype)
        self.conv2 = conv_norm(64, dtype=self.dtype)
        self.conv3 = conv_norm(192, 3, dtype=self.dtype)
        inceptions = {}
        for name, channels in INCEPTIONS.items():
            inceptions[name] = Inception(channels, self.dtype, name=name)
        self.inceptions = inceptions
        self.drop = Dropout(self.dropout)
        self.fc = nn.Dense(self.num_classes, dtype=self.dtype)

    def features(self, x, *, train: bool = False):
        if self.transform_input:
            x = from_imagenet_statistics(x, 0.5, 0.5)
        x = self.conv1(x, train=train)
        x = ceil_max_pool(x, 3, 2)
        x = self.conv2(x, train=train)
        x = self.conv3(x, train=train)
        for name, inception in self.inceptions.items():
            if name in POOL_BEFORE:
                x = ceil_max_pool(x, POOL_BEFORE[name], 2)
            x = inception(x, train=train)
        return x

    def head(self, x, *, train: bool = False):
        x = self.drop(x, train=train)
        return self.fc(x)


def conv_norm(features: int, kernel_size: int = 1, strides: int = 1, **options) -> ConvNorm:
    return ConvNorm(features, kernel_size, strides, epsilon=EPSILON, momentum=MOMENTUM, **options)


VARIANTS = {"googlenet": GoogLeNet}
