"""Low-rank pairs against the two convolutions that they stand for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from imgcls_jax import trees
from imgcls_jax.errors import ConfigError
from imgcls_jax.models.lora import KEY, LoRA, apart

X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 12, 12, 6)), jnp.float32)


def filled(params, seed=1):
    """The parameters with random `up`s: at first they are zero."""
    random = np.random.default_rng(seed)
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: (
            jnp.asarray(random.normal(size=leaf.shape), jnp.float32) if "up" in str(path) else leaf
        ),
        params,
    )


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("kernel", "strides"), [(7, 2), (3, 1), (3, 2), (1, 1), (1, 2)])
def test_a_convolution_equals_the_explicit_form(kernel, strides, full):
    conv = nn.Conv(8, (kernel, kernel), strides, padding=kernel // 2)
    params = conv.init(jax.random.key(0), X)["params"]
    lora = LoRA(rank=3, alpha=6.0, full=full)
    params = filled(lora.add(params, ["kernel"], jax.random.key(1)))
    pair = params[KEY]["kernel"]
    down, up = (leaf if leaf.ndim == 4 else leaf[None, None] for leaf in (pair["down"], pair["up"]))
    first = {"strides": strides, "padding": down.shape[0] // 2}
    middle = nn.Conv(3, down.shape[:2], use_bias=False, **first).apply(
        {"params": {"kernel": down}}, X
    )
    branch = nn.Conv(8, (1, 1), use_bias=False).apply({"params": {"kernel": up}}, middle)
    own, _ = apart(params)
    expected = conv.apply({"params": own}, X) + 6.0 / 3 * branch
    merged = conv.apply({"params": lora.merge(params)}, X)
    np.testing.assert_allclose(merged, expected, atol=1e-5 * np.abs(expected).max())
    assert np.abs(np.asarray(merged) - np.asarray(conv.apply({"params": own}, X))).max() > 0.1


def test_a_dense_layer_equals_the_explicit_form():
    dense = nn.Dense(5)
    params = dense.init(jax.random.key(0), X)["params"]
    lora = LoRA(rank=2, alpha=1.0)
    params = filled(lora.add(params, ["kernel"], jax.random.key(1)))
    pair = params[KEY]["kernel"]
    expected = dense.apply({"params": apart(params)[0]}, X) + 0.5 * (X @ pair["down"]) @ pair["up"]
    np.testing.assert_allclose(dense.apply({"params": lora.merge(params)}, X), expected, atol=1e-5)


def test_it_starts_as_the_identity_and_leaves_what_it_was_given():
    params = {
        "a": {"kernel": jnp.ones((3, 3, 4, 4)), "bias": jnp.ones(4)},
        "b": {"kernel": jnp.ones((4, 2))},
    }
    lora = LoRA(rank=2, alpha=2.0)
    added = lora.add(params, ["a/kernel", "b/kernel"], jax.random.key(0))
    assert trees.count(added) == trees.count(params) + 2 * (4 + 4) + 2 * (4 + 2)
    assert trees.digest(lora.merge(added)) == trees.digest(params) and KEY not in params
    assert trees.digest(apart(added)[0]) == trees.digest(params)


@pytest.mark.parametrize(("shape", "full"), [((2, 2, 3, 3), False), ((3,), True)])
def test_kernels_without_a_centre_are_refused(shape, full):
    with pytest.raises(ConfigError, match="kernel has the shape"):
        LoRA(1, 1.0, full).add({"kernel": jnp.ones(shape)}, ["kernel"], jax.random.key(0))
