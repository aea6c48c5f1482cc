"""Blocks that several models share.

XLA's CPU backend lowers three gradients badly: a convolution's inside a loop (up to 60 times slower), a max pool's and
an LSTM's. The layers here have their own, equal to Flax' layers in parameters and in numbers. `_own_gradients` is the
one place that decides where they are used.
"""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

glorot = nn.initializers.xavier_uniform()  # the default of Keras, in which report B's models were written


def _own_gradients() -> bool:
    return jax.default_backend() == "cpu"


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
            exact, axes = x.astype(jnp.promote_types(x.dtype, jnp.float32)), tuple(range(x.ndim - 1))
            mean, square = mean_over_devices((exact.mean(axes), (exact**2).mean(axes)))
            var = jnp.maximum(square - mean**2, 0)
            if not self.is_initializing():
                for stored, new in ((stored_mean, mean), (stored_var, var)):
                    stored.value = self.momentum * stored.value + (1 - self.momentum) * new
        else:
            mean, var = stored_mean.value, stored_var.value
        factor = scale * lax.rsqrt(var + self.epsilon)
        x, factor, offset = nn.dtypes.promote_dtype(x, factor, bias - mean * factor, dtype=self.dtype)
        return x * factor + offset


class Dropout(nn.Module):
    """`nn.Dropout` whose choice for an example depends on its place in the whole batch, not on the device it is on."""

    rate: float

    @nn.compact
    def __call__(self, x, *, train: bool):
        if not train or not self.rate:
            return x
        key, keep = self.make_rng("dropout"), 1 - self.rate
        kept = jax.vmap(lambda place: jax.random.bernoulli(jax.random.fold_in(key, place), keep, x.shape[1:]))
        return jnp.where(kept(places(len(x))), x / keep, 0)


# ---------------------------------------------------------------------------------------------------------------------
# Convolution

NHWC = ("NHWC", "HWIO", "NHWC")


def convolve(x, w, strides, padding, *, lhs_dilation=None, rhs_dilation=None, precision=None, **options):
    """`lax.conv_general_dilated` for `nn.Conv(conv_general_dilated=...)`, with a gradient that is fast on CPUs.

    x [N, H, W, C], w [h, w, C, F]. Grouped and transposed convolutions are left to XLA.
    """
    ordinary = x.ndim == 4 and options.get("feature_group_count", 1) == 1 and all(d == 1 for d in lhs_dilation or ())
    if not (ordinary and _own_gradients()):
        dilations = {"lhs_dilation": lhs_dilation, "rhs_dilation": rhs_dilation}
        return lax.conv_general_dilated(x, w, strides, padding, precision=precision, **dilations, **options)
    dilation = tuple(rhs_dilation or (1, 1))
    if isinstance(padding, str):
        window = [(k - 1) * d + 1 for k, d in zip(w.shape[:2], dilation, strict=True)]
        padding = lax.padtype_to_pads(x.shape[1:3], window, strides, padding)
    return _convolve(x, w, tuple(strides), tuple(map(tuple, padding)), dilation, precision)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5))
def _convolve(x, w, strides, padding, dilation, precision):
    return lax.conv_general_dilated(
        x, w, strides, padding, rhs_dilation=dilation, dimension_numbers=NHWC, precision=precision
    )


def _convolve_forward(x, w, strides, padding, dilation, precision):
    return _convolve(x, w, strides, padding, dilation, precision), (x, w)


def _convolve_backward(strides, padding, dilation, precision, residuals, g):
    x, w = residuals
    # Without the barrier XLA recomputes the chain that made x and g inside the transposes below.
    x, g = lax.optimization_barrier((x, g))
    to_x, to_w = [], []
    for size, out, k, s, d, (low, _) in zip(
        x.shape[1:3], g.shape[1:3], w.shape[:2], strides, dilation, padding, strict=True
    ):
        reach, spread = (k - 1) * d, (out - 1) * s + 1
        to_x.append((reach - low, size + low - spread))
        to_w.append((low, reach + spread - size - low))
    # Both are written as plain NHWC, HWIO convolutions: only those stay on XLA's fast path inside a loop.
    dx = lax.conv_general_dilated(
        g,
        jnp.flip(w, (0, 1)).transpose(0, 1, 3, 2),
        (1, 1),
        to_x,
        lhs_dilation=strides,
        rhs_dilation=dilation,
        dimension_numbers=NHWC,
        precision=precision,
    )
    dw = lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0),
        g.transpose(1, 2, 0, 3),
        dilation,
        to_w,
        rhs_dilation=strides,
        dimension_numbers=NHWC,
        precision=precision,
    )
    return dx, dw.transpose(1, 2, 0, 3)


_convolve.defvjp(_convolve_forward, _convolve_backward)

Conv = functools.partial(nn.Conv, conv_general_dilated=convolve)


# ---------------------------------------------------------------------------------------------------------------------
# Max pooling


def max_pool(x, window: tuple[int, int], strides: tuple[int, int] | None = None, padding="VALID"):
    """`nn.max_pool` of x [N, H, W, C]; where windows do not overlap, with a gradient that is fast on CPUs."""
    strides = strides or window
    if window != strides or padding != "VALID" or not _own_gradients():
        return nn.max_pool(x, window, strides, padding)
    return _tiled_max(x, window)


def _tiles(x, window):
    """The entries of each window, in row-major order: window[0] * window[1] arrays [N, H // h, W // w, C]."""
    h, w = window
    rows, columns = x.shape[1] // h * h, x.shape[2] // w * w
    return [x[:, i:rows:h, j:columns:w] for i in range(h) for j in range(w)]


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _tiled_max(x, window):
    return functools.reduce(jnp.maximum, _tiles(x, window))


def _tiled_max_forward(x, window):
    y = _tiled_max(x, window)
    return y, (x, y)


def _tiled_max_backward(window, residuals, g):
    x, y = residuals
    taken, parts = jnp.zeros(y.shape, bool), []
    for tile in _tiles(x, window):  # of equal entries the first takes the gradient, as in XLA's own
        hit = (tile == y) & ~taken
        parts.append(jnp.where(hit, g, 0))
        taken |= hit
    (h, w), (n, rows, columns, c) = window, y.shape
    dx = jnp.stack(parts, 3).reshape(n, rows, columns, h, w, c).transpose(0, 1, 3, 2, 4, 5)
    dx = dx.reshape(n, rows * h, columns * w, c)
    return (jnp.pad(dx, ((0, 0), (0, x.shape[1] - rows * h), (0, x.shape[2] - columns * w), (0, 0))),)


_tiled_max.defvjp(_tiled_max_forward, _tiled_max_backward)


# ---------------------------------------------------------------------------------------------------------------------
# LSTM


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
        projected = _project(x.swapaxes(0, 1), kernel)
        recur = _recur if _own_gradients() else _recur_plain
        return recur(projected, recurrent_kernel).swapaxes(0, 1)


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
            dense(f"h{gate}", self.features, nn.initializers.orthogonal(), self.forget_bias if gate == "f" else 0.0)
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


def _cell(carry, projected, recurrent_kernel):
    """One step: (c, h) [N, F] and the projected input [N, 4 F] -> the next (c, h), and the activated gates."""
    c, h = carry
    i, f, g, o = jnp.split(projected + h @ recurrent_kernel, 4, -1)
    i, f, g, o = nn.sigmoid(i), nn.sigmoid(f), jnp.tanh(g), nn.sigmoid(o)
    c = f * c + i * g
    return (c, o * jnp.tanh(c)), (i, f, g, o)


def _zero_state(projected, recurrent_kernel):
    zeros = jnp.zeros((projected.shape[1], recurrent_kernel.shape[0]), projected.dtype)
    return zeros, zeros


def _recur_plain(projected, recurrent_kernel):
    """projected [T, N, 4 F], recurrent_kernel [F, 4 F] -> hidden states [T, N, F]."""

    def step(carry, x):
        carry, _ = _cell(carry, x, recurrent_kernel)
        return carry, carry[1]

    return lax.scan(step, _zero_state(projected, recurrent_kernel), projected)[1]


def _product_over_steps(a, d):
    """a [T, N, A], d [T, N, D] -> [A, D]. The barrier has `a` transposed once: XLA's fast product takes no other."""
    return lax.optimization_barrier(a.reshape(-1, a.shape[-1]).T) @ d.reshape(-1, d.shape[-1])


@jax.custom_vjp
def _project(x, kernel):
    return x @ kernel


_project.defvjp(
    lambda x, kernel: (x @ kernel, (x, kernel)),
    lambda residuals, d: (d @ residuals[1].T, _product_over_steps(residuals[0], d)),
)


@jax.custom_vjp
def _recur(projected, recurrent_kernel):
    return _recur_plain(projected, recurrent_kernel)


def _recur_forward(projected, recurrent_kernel):
    def step(carry, x):
        carry, gates = _cell(carry, x, recurrent_kernel)
        return carry, (*carry, *gates)

    c, h, *gates = lax.scan(step, _zero_state(projected, recurrent_kernel), projected)[1]
    return h, (c, h, gates, recurrent_kernel)


def _recur_backward(residuals, dh_above):
    c, h, gates, recurrent_kernel = residuals
    shift = lambda a: jnp.concatenate([jnp.zeros_like(a[:1]), a[:-1]])  # noqa: E731

    def step(carry, at_step):
        dc, dh = carry
        dh_above, c, c_before, i, f, g, o = at_step
        dh = dh + dh_above
        tanh_c = jnp.tanh(c)
        dc = dc + dh * o * (1 - tanh_c**2)
        d = jnp.concatenate(
            [dc * g * i * (1 - i), dc * c_before * f * (1 - f), dc * i * (1 - g**2), dh * tanh_c * o * (1 - o)], -1
        )
        return (dc * f, d @ transposed), d

    transposed = lax.optimization_barrier(recurrent_kernel.T)
    zeros = jnp.zeros_like(h[0])
    d = lax.scan(step, (zeros, zeros), (dh_above, c, shift(c), *gates), reverse=True)[1]
    return d, _product_over_steps(shift(h), d)


_recur.defvjp(_recur_forward, _recur_backward)
