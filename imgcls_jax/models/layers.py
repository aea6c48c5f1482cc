"""Layers and blocks that several models share.

`Conv`, `Dense` and `max_pool` have Flax' parameters and Flax' results, and are fast on CPUs too
(`cpu_kernels`).
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from imgcls_jax.models import cpu_kernels, cpu_windows
from imgcls_jax.models.batch_axis import batch_positions, mean_over_devices

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

glorot = nn.initializers.xavier_uniform()  # Keras' default
lecun = nn.initializers.lecun_normal()  # Flax' default
he = nn.initializers.variance_scaling(2.0, "fan_out", "normal")  # torchvision's default

Conv = functools.partial(nn.Conv, conv_general_dilated=cpu_kernels.convolve)
Dense = functools.partial(nn.Dense, dot_general=cpu_kernels.dense_product)


# ---------------------------------------------------------------------------------------------
# Normalisation and regularisation


class BatchNorm(nn.Module):
    """`nn.BatchNorm` with statistics over the batch of all devices: x [..., C] -> the same shape.

    With `train` it normalises by the batch's statistics and moves the stored ones towards them
    by 1 - momentum. Statistics and parameters are float32. Normalisation is one product and one
    sum, whose factors are computed once per channel.
    """

    momentum: float = 0.9  # torch calls this 0.1
    epsilon: float = 1e-5
    dtype: jnp.dtype | None = None
    use_scale: bool = True

    @nn.compact
    def __call__(self, x, *, train: bool):
        channels = x.shape[-1:]
        scale = 1.0
        if self.use_scale:
            scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        stored_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        stored_var = self.variable("batch_stats", "var", jnp.ones, channels)

        mean, var = stored_mean.value, stored_var.value
        if train:
            mean, var = _batch_statistics(x)
            if not self.is_initializing():
                stored_mean.value = self._moving_average(stored_mean.value, mean)
                stored_var.value = self._moving_average(stored_var.value, var)

        factor = scale * lax.rsqrt(var + self.epsilon)
        offset = bias - mean * factor
        x, factor, offset = nn.dtypes.promote_dtype(x, factor, offset, dtype=self.dtype)
        return x * factor + offset

    def _moving_average(self, stored, new):
        return self.momentum * stored + (1 - self.momentum) * new


def _batch_statistics(x):
    """Returns mean and variance [C] of x [..., C], in float32, over the batch of all devices."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    axes = tuple(range(x.ndim - 1))
    statistics = x.mean(axes), (x**2).mean(axes)
    mean, mean_square = mean_over_devices(statistics)
    return mean, jnp.maximum(mean_square - mean**2, 0)


class Dropout(nn.Module):
    """`nn.Dropout` whose mask depends on an example's position in the batch of all devices.

    So the number of devices does not change the mask. x [B, ...] -> the same shape.
    """

    rate: float

    @nn.compact
    def __call__(self, x, *, train: bool):
        if not train or not self.rate:
            return x
        keep_rate = 1 - self.rate
        batch_key = self.make_rng("dropout")

        def mask(position):
            key = jax.random.fold_in(batch_key, position)
            return jax.random.bernoulli(key, keep_rate, x.shape[1:])

        masks = jax.vmap(mask)(batch_positions(len(x)))
        return jnp.where(masks, x / keep_rate, 0)


class DropPath(nn.Module):
    """Stochastic depth (Huang et al., 2016, arXiv:1603.09382): drops a block's branch x [B, ...].

    Each example loses it with probability `rate`; otherwise it is scaled up by 1 / (1 - rate).
    """

    rate: float

    @nn.compact
    def __call__(self, x, *, train: bool):
        shape = [1] * x.ndim
        shape[0] = x.shape[0]
        ones = jnp.ones(shape, x.dtype)
        return x * Dropout(self.rate)(ones, train=train)


# ---------------------------------------------------------------------------------------------
# Pooling


def max_pool(x, window: tuple[int, int], strides: tuple[int, int] | None = None, padding="VALID"):
    """`nn.max_pool` of x [N, H, W, C], by default with strides equal to the window."""
    strides = strides or window
    if not cpu_kernels.enabled():
        return nn.max_pool(x, window, strides, padding)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:3], window, strides, padding)
    padding = tuple(tuple(pads) for pads in padding)
    return cpu_windows.max_pool(x, window, strides, padding)


def ceil_max_pool(x, window: int, stride: int):
    """torch's max pool with `ceil_mode` of x [B, H, W, C]: the last window may exceed the map."""

    def padding(size: int) -> tuple[int, int]:
        last_start = -(-(size - window) // stride) * stride
        return 0, max(last_start + window - size, 0)

    pads = (padding(x.shape[1]), padding(x.shape[2]))
    return max_pool(x, (window, window), (stride, stride), pads)


# ---------------------------------------------------------------------------------------------
# Blocks of the architectures with pretrained weights


class ConvNorm(nn.Module):
    """A convolution without bias, BatchNorm and an activation.

    x [B, H, W, C] -> [B, H / strides, W / strides, features]. The two layers have the given
    `names`. Padding is symmetric as in torch, or Keras' `same`, which differs from it where an
    even size meets a stride of 2.
    """

    features: int
    kernel_size: int = 1
    strides: int = 1
    _: dataclasses.KW_ONLY
    epsilon: float
    momentum: float
    same_padding: bool = False
    depthwise: bool = False
    activation: Callable | None = nn.relu
    names: tuple[str, str] = ("conv", "bn")
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, *, train: bool):
        conv_name, norm_name = self.names
        padding = self.kernel_size // 2
        if self.same_padding:
            padding = "SAME"
        groups = 1
        if self.depthwise:
            groups = self.features
        x = Conv(
            self.features,
            (self.kernel_size, self.kernel_size),
            self.strides,
            padding=padding,
            feature_group_count=groups,
            use_bias=False,
            kernel_init=he,
            dtype=self.dtype,
            name=conv_name,
        )(x)
        norm = BatchNorm(
            momentum=self.momentum, epsilon=self.epsilon, dtype=self.dtype, name=norm_name
        )
        x = norm(x, train=train)
        if self.activation is None:
            return x
        return self.activation(x)


class SqueezeExcite(nn.Module):
    """Squeeze and excitation (Hu et al., 2017, arXiv:1709.01507): x [B, h, w, C] -> the same shape.

    Multiplies each channel by a gate in (0, 1), which two 1x1 convolutions compute from the
    means of all channels.
    """

    squeezed: int  # channels between the two convolutions
    activation: Callable = nn.relu
    names: tuple[str, str] = ("fc1", "fc2")
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        squeeze_name, excite_name = self.names
        squeeze = Conv(self.squeezed, (1, 1), dtype=self.dtype, name=squeeze_name)
        excite = Conv(x.shape[-1], (1, 1), dtype=self.dtype, name=excite_name)
        gate = x.mean((1, 2), keepdims=True)
        gate = self.activation(squeeze(gate))
        return x * nn.sigmoid(excite(gate))


def from_imagenet_statistics(x, mean: float, std: float):
    """Turns x [B, H, W, 3], normalised by ImageNet's statistics, into x normalised by these."""
    imagenet_mean = jnp.asarray(IMAGENET_MEAN, x.dtype)
    imagenet_std = jnp.asarray(IMAGENET_STD, x.dtype)
    return x * (imagenet_std / std) + (imagenet_mean - mean) / std
