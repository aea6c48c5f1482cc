"""The blocks of layers.py: `ceil_mode`, stochastic depth, squeeze and excitation, ConvNorm."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from generated import initialized

from imgcls_jax.models.layers import ConvNorm, DropPath, SqueezeExcite, ceil_max_pool


def pooled_by_hand(x, window, stride):
    """torch's rule: as many windows as start within the map, cut off at its edge."""
    size = x.shape[1]
    starts = [i for i in range(0, size, stride) if i == 0 or i - stride + window < size]
    pooled = np.empty((1, len(starts), len(starts), 1), np.float32)
    for (i, row), (j, column) in itertools.product(enumerate(starts), repeat=2):
        pooled[0, i, j, 0] = x[0, row : row + window, column : column + window, 0].max()
    return pooled


@pytest.mark.parametrize("size", [4, 5, 6, 7, 8, 13])
@pytest.mark.parametrize("window, stride", [(3, 2), (2, 2)])
def test_ceil_max_pool(size, window, stride):
    uniform = np.random.default_rng(0).random((1, size, size, 1), np.float32)
    x = -1 - uniform  # negative: padding must not count
    pooled = ceil_max_pool(jnp.asarray(x), window, stride)
    np.testing.assert_array_equal(pooled, pooled_by_hand(x, window, stride))


def drop_path(x, rate, *, train):
    @jax.jit
    def apply(x):
        return DropPath(rate).apply({}, x, rngs={"dropout": jax.random.key(0)}, train=train)

    return apply(x)


def test_drop_path_drops_whole_examples_and_keeps_the_mean():
    x = jnp.ones((2000, 2, 2, 3))
    y = np.asarray(drop_path(x, 0.25, train=True))
    assert set(np.unique(y)) == {0, np.float32(1 / 0.75)}
    assert (y == y[:, :1, :1, :1]).all()
    assert y.mean() == pytest.approx(1, abs=0.05)
    np.testing.assert_array_equal(drop_path(x, 0.25, train=False), x)


def test_drop_path_depends_only_on_the_position_in_the_batch():
    x = jnp.ones((16, 1, 1, 1))
    whole = drop_path(x, 0.5, train=True)
    half = drop_path(x[:8], 0.5, train=True)
    np.testing.assert_array_equal(whole[:8], half)


def test_squeeze_excite_scales_every_channel():
    x = jnp.asarray(np.random.default_rng(0).random((2, 3, 4, 8)), jnp.float32)
    y, variables = jax.jit(SqueezeExcite(2).init_with_output)(jax.random.key(0), x)
    gate = y / x
    np.testing.assert_allclose(gate, jnp.broadcast_to(gate[:, :1, :1], x.shape), rtol=1e-5)
    assert ((gate > 0) & (gate < 1)).all()
    assert variables["params"]["fc1"]["kernel"].shape == (1, 1, 8, 2)


def test_conv_norm_pads_as_torch_or_as_keras():
    x = np.random.default_rng(0).normal(size=(1, 6, 6, 2)).astype(np.float32)
    settings = {"features": 4, "kernel_size": 3, "strides": 2, "epsilon": 1e-3, "momentum": 0.9}
    torch_layer = ConvNorm(**settings)
    keras_layer = ConvNorm(**settings, same_padding=True)
    variables = initialized(torch_layer, x, train=False)
    torch = jax.jit(lambda x: torch_layer.apply(variables, x, train=False))
    keras = jax.jit(lambda x: keras_layer.apply(variables, x, train=False))
    # On an even size with strides Keras pads only below and to the right: torch's windows, moved by
    # one pixel.
    moved = np.pad(x[:, 1:, 1:], ((0, 0), (0, 1), (0, 1), (0, 0)))
    np.testing.assert_allclose(keras(x)[:, 1:, 1:], torch(moved)[:, 1:, 1:], atol=1e-6)
    assert not np.allclose(keras(x), torch(x), atol=1e-2)
