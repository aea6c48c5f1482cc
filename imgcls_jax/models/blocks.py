"""Blocks that the architectures with pretrained weights share."""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
from flax import linen as nn

from imgcls_jax.models.layers import BatchNorm, Conv, Dropout, max_pool

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

he = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class ConvNorm(nn.Module):
    """A convolution without bias, BatchNorm, an activation: x [B, H, W, C] -> [B, H / strides, W / strides, features].

    The two layers carry the given `names`. Padding is symmetric as in torch, or Keras' `same`, which differs from it
    where strides meet an even size.
    """

    features: int
    kernel: int = 1
    strides: int = 1
    _: dataclasses.KW_ONLY
    epsilon: float
    momentum: float
    same: bool = False
    depthwise: bool = False
    activation: Callable | None = nn.relu
    names: tuple[str, str] = ("conv", "bn")
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, *, train: bool):
        conv, norm = self.names
        x = Conv(
            self.features,
            (self.kernel, self.kernel),
            self.strides,
            padding="SAME" if self.same else self.kernel // 2,
            feature_group_count=self.features if self.depthwise else 1,
            use_bias=False,
            kernel_init=he,
            dtype=self.dtype,
            name=conv,
        )(x)
        x = BatchNorm(momentum=self.momentum, epsilon=self.epsilon, dtype=self.dtype, name=norm)(
            x, train=train
        )
        return self.activation(x) if self.activation else x


def from_imagenet(x, mean: float, std: float):
    """Images normalised by ImageNet's mean and deviation -> the same normalised by these. x [B, H, W, 3]."""
    imagenet_mean, imagenet_std = (
        jnp.asarray(IMAGENET_MEAN, x.dtype),
        jnp.asarray(IMAGENET_STD, x.dtype),
    )
    return x * (imagenet_std / std) + (imagenet_mean - mean) / std


class SqueezeExcite(nn.Module):
    """Every channel times a gate in (0, 1), computed from all channels' means by two 1x1 convolutions."""

    squeezed: int
    activation: Callable = nn.relu
    names: tuple[str, str] = ("fc1", "fc2")
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        squeeze, excite = self.names
        gate = x.mean((1, 2), keepdims=True)
        gate = self.activation(Conv(self.squeezed, (1, 1), dtype=self.dtype, name=squeeze)(gate))
        return x * nn.sigmoid(Conv(x.shape[-1], (1, 1), dtype=self.dtype, name=excite)(gate))


class DropPath(nn.Module):
    """Stochastic depth: the branch x [B, ...] is left out for an example with this probability, else scaled up."""

    rate: float

    @nn.compact
    def __call__(self, x, *, train: bool):
        return x * Dropout(self.rate)(
            jnp.ones((x.shape[0],) + (1,) * (x.ndim - 1), x.dtype), train=train
        )


def ceil_max_pool(x, window: int, strides: int):
    """torch's max pool with `ceil_mode` of x [B, H, W, C]: a last window may reach over the edge."""

    def over(size: int) -> int:
        return max((-(-(size - window) // strides)) * strides + window - size, 0)

    padding = tuple((0, over(size)) for size in x.shape[1:3])
    return max_pool(x, (window, window), (strides, strides), padding)
