"""Layers that several models share. `cpu_kernels` has the forms that some of them take on CPUs."""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from imgcls_jax.models import cpu_kernels, cpu_windows

glorot = (
    nn.initializers.xavier_uniform()
)  # the default of Keras, in which report B's models were written


class Classifier(nn.Module):
    """The seam of every model: images [B, H, W, C] -> features (a map [B, h, w, F], or vectors) -> pooled -> logits.

    Subclasses define `features(x, *, train)` and `head(x, *, train)`, which takes what `pool` makes of the features:
    the mean over the places of a map, where a subclass has no pool of its own. `prepare` gives the state (what is no
    parameter) that training starts from, where a model computes any from its training images uint8 [N, H, W, C] and
    their `transform`. B may be a symbol, so that one exported program takes any batch: x.shape[0], not len(x).
    """

    def prepare(self, model_state, images, transform):
        return model_state

    def __call__(self, x, *, train: bool = False):
        return self.head(self.encode(x, train=train), train=train)

    def encode(self, x, *, train: bool = False):
        """What the head takes."""
        return self.pool(self.features(x, train=train))

    def pool(self, x):
        return x.mean((1, 2)) if x.ndim == 4 else x


# ---------------------------------------------------------------------------------------------------------------------
# Batches that are split over devices

AXIS = "batch"  # the axis over which steps.py splits a batch


def mean_over_devices(x):
    """The mean over the devices that share a batch; x itself where one device has it all."""
    try:
        return lax.pmean(x, AXIS)
    except NameError:  # no such axis: the model is not run by steps.py
        return x


def all_devices(x):
    """[B, ...] of every device one after another: the whole batch."""
    try:
        return lax.all_gather(x, AXIS, tiled=True)
    except NameError:
        return x


def places(size: int):
    """int32 [size]: the places in the whole batch of this device's part of it."""
    try:
        return lax.axis_index(AXIS) * size + jnp.arange(size)
    except NameError:
        return jnp.arange(size)


# ---------------------------------------------------------------------------------------------------------------------
# Normalisation, regularisation


class BatchNorm(nn.Module):
    """`nn.BatchNorm` as one product and one sum with figures per channel; statistics over the batch of all devices.

    x [..., C] -> the same shape. With `train` the batch's statistics are used and the stored ones moved towards them,
    by 1 - momentum. Statistics and parameters are float32.
    """

    momentum: float = 0.9  # torch's .1
    epsilon: float = 1e-5
    dtype: jnp.dtype | None = None
    use_scale: bool = True
    scale_init: nn.initializers.Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, x, *, train: bool):
        shape = x.shape[-1:]
        scale = self.param("scale", self.scale_init, shape) if self.use_scale else 1.0
        bias = self.param("bias", nn.initializers.zeros, shape)
        stored_mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        stored_var = self.variable("batch_stats", "var", jnp.ones, shape)
        if train:
            exact, axes = (
                x.astype(jnp.promote_types(x.dtype, jnp.float32)),
                tuple(range(x.ndim - 1)),
            )
            mean, square = mean_over_devices((exact.mean(axes), (exact**2).mean(axes)))
            var = jnp.maximum(square - mean**2, 0)
            if not self.is_initializing():
                for stored, new in ((stored_mean, mean), (stored_var, var)):
                    stored.value = self.momentum * stored.value + (1 - self.momentum) * new
        else:
            mean, var = stored_mean.value, stored_var.value
        factor = scale * lax.rsqrt(var + self.epsilon)
        x, factor, offset = nn.dtypes.promote_dtype(
            x, factor, bias - mean * factor, dtype=self.dtype
        )
        return x * factor + offset


class Dropout(nn.Module):
    """`nn.Dropout` whose choice for an example depends on its place in the whole batch, not on the device it is on."""

    rate: float

    @nn.compact
    def __call__(self, x, *, train: bool):
        if not train or not self.rate:
            return x
        key, keep = self.make_rng("dropout"), 1 - self.rate
        kept = jax.vmap(
            lambda place: jax.random.bernoulli(jax.random.fold_in(key, place), keep, x.shape[1:])
        )
        return jnp.where(kept(places(len(x))), x / keep, 0)


# ---------------------------------------------------------------------------------------------------------------------
# Layers that have forms of their own on CPUs

Conv = functools.partial(nn.Conv, conv_general_dilated=cpu_kernels.convolve)
Dense = functools.partial(nn.Dense, dot_general=cpu_kernels.dense_product)


def max_pool(x, window: tuple[int, int], strides: tuple[int, int] | None = None, padding="VALID"):
    """`nn.max_pool` of x [N, H, W, C]."""
    strides = strides or window
    if not cpu_kernels.used():
        return nn.max_pool(x, window, strides, padding)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:3], window, strides, padding)
    return cpu_windows.max_pool(x, window, strides, tuple(tuple(pads) for pads in padding))


class LSTM(nn.Module):
    """`nn.RNN(nn.OptimizedLSTMCell(features))` from a zero state: x [N, T, C] -> the hidden states [N, T, features].

    The inputs of all steps are projected by one product, and so are the weights' gradients computed.
    """

    features: int
    dtype: jnp.dtype | None = None
    kernel_init: nn.initializers.Initializer = glorot
    forget_bias: float = 0.0  # initial bias of the forget gate; 1 in Keras

    @nn.compact
    def __call__(self, x):
        cell = _CellParameters(self.features, self.kernel_init, self.forget_bias, name="cell")(x)
        x, *cell = nn.dtypes.promote_dtype(x, *cell, dtype=self.dtype)
        kernel, recurrent_kernel, bias = cell
        # The bias is the last row of the kernel, so that it and its gradient come out of the same products.
        ones = jnp.ones((*x.shape[:-1], 1), x.dtype)
        x, kernel = jnp.concatenate([x, ones], -1), jnp.concatenate([kernel, bias[None]])
        projected = cpu_kernels.project(x.swapaxes(0, 1), kernel)
        return cpu_kernels.recur(projected, recurrent_kernel).swapaxes(0, 1)


class _CellParameters(nn.Module):
    """The parameters of `nn.OptimizedLSTMCell` under the same names, put side by side in the order i, f, g, o."""

    features: int
    kernel_init: nn.initializers.Initializer
    forget_bias: float

    @nn.compact
    def __call__(self, x):
        def dense(name: str, rows: int, init, bias: float | None = None):
            return _DenseParameters(rows, self.features, init, bias, name=name)()

        kernels = [dense(f"i{gate}", x.shape[-1], self.kernel_init)[0] for gate in "ifgo"]
        recurrent = [
            dense(
                f"h{gate}",
                self.features,
                nn.initializers.orthogonal(),
                self.forget_bias if gate == "f" else 0.0,
            )
            for gate in "ifgo"
        ]
        recurrent_kernels, biases = zip(*recurrent, strict=True)
        return tuple(jnp.concatenate(part, -1) for part in (kernels, recurrent_kernels, biases))


class _DenseParameters(nn.Module):
    rows: int
    columns: int
    kernel_init: nn.initializers.Initializer
    bias: float | None

    @nn.compact
    def __call__(self):
        kernel = self.param("kernel", self.kernel_init, (self.rows, self.columns))
        if self.bias is None:
            return kernel, None
        return kernel, self.param("bias", nn.initializers.constant(self.bias), (self.columns,))
