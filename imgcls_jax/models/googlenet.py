"""GoogLeNet (Szegedy et al., 2014, arXiv:1409.4842) as torchvision has it, with BatchNorm, without auxiliary heads."""

from functools import partial

import jax.numpy as jnp
from flax import linen as nn

from imgcls_jax.models.blocks import ConvNorm, ceil_max_pool, from_imagenet
from imgcls_jax.models.layers import Classifier, Dropout, max_pool

EPSILON, MOMENTUM = 1e-3, 0.9

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
    """Four branches beside each other: x [B, H, W, C] -> [B, H, W, sum of the branches' channels]."""

    channels: tuple[int, ...]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, *, train: bool):
        def conv(x, name, features, kernel=1):
            layer = ConvNorm(
                features, kernel, epsilon=EPSILON, momentum=MOMENTUM, dtype=self.dtype, name=name
            )
            return layer(x, train=train)

        one, to_second, second, to_third, third, pooled = self.channels
        branches = [
            conv(x, "branch1", one),
            conv(conv(x, "branch2_0", to_second), "branch2_1", second, 3),
            conv(conv(x, "branch3_0", to_third), "branch3_1", third, 3),
            conv(max_pool(x, (3, 3), (1, 1), "SAME"), "branch4_1", pooled),
        ]
        return jnp.concatenate(branches, -1)


class GoogLeNet(Classifier):
    """Images [B, H, W, 3] -> a map [B, H / 32, W / 32, 1024] -> logits [B, num_classes].

    `transform_input` turns images that are normalised by ImageNet's mean and deviation into (pixel - .5) / .5, which
    torchvision's pretrained weights were trained on.
    """

    num_classes: int
    dropout: float = 0.2
    transform_input: bool = False
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        conv = partial(ConvNorm, epsilon=EPSILON, momentum=MOMENTUM, dtype=self.dtype)
        self.conv1 = conv(64, 7, 2)
        self.conv2 = conv(64)
        self.conv3 = conv(192, 3)
        for name, channels in INCEPTIONS.items():
            setattr(self, name, Inception(channels, self.dtype))
        self.drop = Dropout(self.dropout)
        self.fc = nn.Dense(self.num_classes, dtype=self.dtype)

    def features(self, x, *, train: bool = False):
        if self.transform_input:
            x = from_imagenet(x, 0.5, 0.5)
        x = ceil_max_pool(self.conv1(x, train=train), 3, 2)
        x = self.conv3(self.conv2(x, train=train), train=train)
        for name in INCEPTIONS:
            if name in POOL_BEFORE:
                x = ceil_max_pool(x, POOL_BEFORE[name], 2)
            x = getattr(self, name)(x, train=train)
        return x

    def head(self, x, *, train: bool = False):
        return self.fc(self.drop(x, train=train))


VARIANTS = {"googlenet": GoogLeNet}
