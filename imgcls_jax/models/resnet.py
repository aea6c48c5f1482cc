"""ResNet (He et al., 2015, arXiv:1512.03385) as torchvision and as Keras have it."""

from collections.abc import Sequence
from functools import partial

import jax.numpy as jnp
from flax import linen as nn

from imgcls_jax.models.blocks import he
from imgcls_jax.models.layers import BatchNorm, Classifier, Conv, max_pool


class Torchvision:
    """A bottleneck strides in its 3x3 convolution (ResNet "V1.5")."""

    bias = False
    epsilon = 1e-5
    momentum = 0.9
    strided = 2  # which of a bottleneck's convolutions strides
    stem = ("conv1", "bn1")
    head = "fc"

    @staticmethod
    def block(stage: int, index: int) -> str:
        return f"layer{stage}_{index}"

    @staticmethod
    def layers(number: int) -> tuple[str, str]:
        return (f"conv{number}", f"bn{number}") if number else ("downsample_0", "downsample_1")


class Keras:
    """A bottleneck strides in its first 1x1 convolution, as in the paper."""

    bias = True
    epsilon = 1.001e-5
    momentum = 0.99
    strided = 1
    stem = ("conv1_conv", "conv1_bn")
    head = "predictions"

    @staticmethod
    def block(stage: int, index: int) -> str:
        return f"conv{stage + 1}_block{index + 1}"

    @staticmethod
    def layers(number: int) -> tuple[str, str]:
        return f"{number}_conv", f"{number}_bn"


def conv(style: type, features: int, kernel: int, strides: int, **options) -> Conv:
    size = (kernel, kernel)
    return Conv(
        features, size, strides, padding=kernel // 2, use_bias=style.bias, kernel_init=he, **options
    )


def norm(style: type, **options) -> BatchNorm:
    return BatchNorm(momentum=style.momentum, epsilon=style.epsilon, **options)


class Block(nn.Module):
    """x + its residual, rectified: 3x3 and 3x3 convolutions, or a bottleneck of 1x1, 3x3 and 1x1.

    x [B, H, W, C] -> [B, H / strides, W / strides, features], four times the features from a bottleneck.
    """

    features: int
    strides: int
    bottleneck: bool
    style: type
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, *, train: bool):
        def layer(x, number, features, kernel, strides):
            names = self.style.layers(number)
            x = conv(self.style, features, kernel, strides, dtype=self.dtype, name=names[0])(x)
            return norm(self.style, dtype=self.dtype, name=names[1])(x, train=train)

        if self.bottleneck:
            first, second = (self.strides, 1) if self.style.strided == 1 else (1, self.strides)
            y = nn.relu(layer(x, 1, self.features, 1, first))
            y = nn.relu(layer(y, 2, self.features, 3, second))
            y = layer(y, 3, 4 * self.features, 1, 1)
        else:
            y = nn.relu(layer(x, 1, self.features, 3, self.strides))
            y = layer(y, 2, self.features, 3, 1)
        if x.shape != y.shape:
            x = layer(x, 0, y.shape[-1], 1, self.strides)
        return nn.relu(x + y)


class ResNet(Classifier):
    """Images [B, H, W, 3] -> a map [B, H / 32, W / 32, 512 or 2048] -> logits [B, num_classes]."""

    num_classes: int
    blocks: Sequence[int]
    bottleneck: bool
    style: type = Torchvision
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        names = []
        stem_conv, stem_norm = self.style.stem
        setattr(self, stem_conv, conv(self.style, 64, 7, 2, dtype=self.dtype))
        setattr(self, stem_norm, norm(self.style, dtype=self.dtype))
        for stage, blocks in enumerate(self.blocks, 1):
            for index in range(blocks):
                names.append(self.style.block(stage, index))
                strides = 2 if stage > 1 and index == 0 else 1
                block = Block(32 * 2**stage, strides, self.bottleneck, self.style, self.dtype)
                setattr(self, names[-1], block)
        self.block_names = names
        setattr(self, self.style.head, nn.Dense(self.num_classes, dtype=self.dtype))

    def features(self, x, *, train: bool = False):
        stem_conv, stem_norm = (getattr(self, name) for name in self.style.stem)
        x = nn.relu(stem_norm(stem_conv(x), train=train))
        # Keras pads with zeros here, which after ReLU never are a window's only maximum: the same numbers.
        x = max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for name in self.block_names:
            x = getattr(self, name)(x, train=train)
        return x

    def head(self, x, *, train: bool = False):
        return getattr(self, self.style.head)(x)


VARIANTS = {
    "resnet18": partial(ResNet, blocks=(2, 2, 2, 2), bottleneck=False, style=Torchvision),
    "resnet50": partial(ResNet, blocks=(3, 4, 6, 3), bottleneck=True, style=Torchvision),
    "resnet50_keras": partial(ResNet, blocks=(3, 4, 6, 3), bottleneck=True, style=Keras),
}
