"""Low-rank pairs against the two convolutions that they stand for."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from generated import initialized

from imgcls_jax import trees
from imgcls_jax.errors import ConfigError
from imgcls_jax.models import lora
from imgcls_jax.models.lora import KEY, LoRA

X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 12, 12, 6)), jnp.float32)


def with_random_up(params, seed=1):
    """The parameters with random `up` matrices, which are zero at first."""
    rng = np.random.default_rng(seed)

    def randomize(path, leaf):
        if "up" in str(path):
            return jnp.asarray(rng.normal(size=leaf.shape), jnp.float32)
        return leaf

    return jax.tree_util.tree_map_with_path(randomize, params)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("kernel", "strides"), [(7, 2), (3, 1), (3, 2), (1, 1), (1, 2)])
def test_a_convolution_equals_the_explicit_form(kernel, strides, full):
    conv = nn.Conv(8, (kernel, kernel), strides, padding=kernel // 2)
    adaptation = LoRA(rank=3, alpha=6.0, full=full)
    params = initialized(conv, X)["params"]
    params = with_random_up(adaptation.add(params, ["kernel"], jax.random.key(1)))

    pair = params[KEY]["kernel"]
    down = pair["down"] if full else pair["down"][None, None]
    up = pair["up"][None, None]
    down_conv = nn.Conv(3, down.shape[:2], strides, padding=down.shape[0] // 2, use_bias=False)
    up_conv = nn.Conv(8, (1, 1), use_bias=False)
    middle = down_conv.apply({"params": {"kernel": down}}, X)
    branch = up_conv.apply({"params": {"kernel": up}}, middle)

    model_params, _ = lora.split(params)
    unadapted = np.asarray(conv.apply({"params": model_params}, X))
    expected = unadapted + 6.0 / 3 * branch
    adapted = np.asarray(conv.apply({"params": adaptation.merge(params)}, X))
    np.testing.assert_allclose(adapted, expected, atol=1e-5 * np.abs(expected).max())
    assert np.abs(adapted - unadapted).max() > 0.1


def test_a_dense_layer_equals_the_explicit_form():
    dense = nn.Dense(5)
    adaptation = LoRA(rank=2, alpha=1.0)
    params = initialized(dense, X)["params"]
    params = with_random_up(adaptation.add(params, ["kernel"], jax.random.key(1)))
    pair = params[KEY]["kernel"]
    model_params, _ = lora.split(params)
    expected = dense.apply({"params": model_params}, X) + 0.5 * (X @ pair["down"]) @ pair["up"]
    adapted = dense.apply({"params": adaptation.merge(params)}, X)
    np.testing.assert_allclose(adapted, expected, atol=1e-5)


def test_it_starts_as_the_identity_and_does_not_change_its_argument():
    params = {
        "a": {"kernel": jnp.ones((3, 3, 4, 4)), "bias": jnp.ones(4)},
        "b": {"kernel": jnp.ones((4, 2))},
    }
    adaptation = LoRA(rank=2, alpha=2.0)
    adapted = adaptation.add(params, ["a/kernel", "b/kernel"], jax.random.key(0))
    assert trees.count(adapted) == trees.count(params) + 2 * (4 + 4) + 2 * (4 + 2)
    assert trees.digest(adaptation.merge(adapted)) == trees.digest(params)
    assert KEY not in params
    model_params, _ = lora.split(adapted)
    assert trees.digest(model_params) == trees.digest(params)


@pytest.mark.parametrize(("shape", "full"), [((2, 2, 3, 3), False), ((3,), True)])
def test_kernels_without_a_centre_are_refused(shape, full):
    with pytest.raises(ConfigError, match="kernel has the shape"):
        LoRA(1, 1.0, full).add({"kernel": jnp.ones(shape)}, ["kernel"], jax.random.key(0))


PROGRAM = """
import jax
from imgcls_jax.models.lora import LoRA
kernels = {f"layer{k}": {"kernel": jax.numpy.ones((4, 4))} for k in range(6)}
pairs = LoRA(rank=1, alpha=1.0)
params = pairs.add(kernels, [f"layer{k}/kernel" for k in range(6)], jax.random.key(0))
print(jax.jit(pairs.merge).lower(params).as_text())
"""


def test_every_process_has_the_same_program():
    """Whatever the order of sets is in it: else its compiled form would not be found again."""
    programs = set()
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True
        )
        assert "stablehlo" in run.stdout, run.stderr
        programs.add(run.stdout)
    assert len(programs) == 1
