"""What the processes of one training send each other: data, of which nothing is executed, and all of it arrives."""

import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.experimental import multihost_utils

from imgcls_jax import distributed
from imgcls_jax.training.state import Progress, TrainState, as_plain

UNPICKLED: list[str] = []
sys.addaudithook(lambda event, _: UNPICKLED.append(event) if event == "pickle.find_class" else None)


@pytest.fixture
def two(monkeypatch):
    """As the first of two processes, whose messages reach itself; the bytes that were sent."""
    sent = []

    def broadcast(value):
        sent.append(np.asarray(value).tobytes())
        return jnp.asarray(value)

    monkeypatch.setattr(distributed, "_num_processes", 2)
    monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", broadcast)
    return sent


@pytest.mark.parametrize(
    "value", ["a\ud7ff", "", 3, 2**62, None, True, 0.1, [1, [None, "a"]], {"a": {"b": [0.5]}}, []]
)
def test_plain_values_arrive(value, two):
    found = distributed.from_primary(lambda: value)
    assert found == value and type(found) is type(value)
    assert not any(
        content.startswith(b"\x80\x04") or content.startswith(b"\x80\x05") for content in two
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "uint8", "bool"])
@pytest.mark.parametrize("shape", [(3, 4), (0, 5), ()])
def test_arrays_arrive(dtype, shape, two):
    value = jnp.ones(shape, dtype)
    found = distributed.from_primary(lambda: value)
    assert (found.dtype, found.shape) == (value.dtype, value.shape) and (
        np.asarray(found) == np.asarray(value)
    ).all()


def test_a_state_and_its_progress_arrive(two):
    params = {
        "dense": {"kernel": jnp.arange(6.0).reshape(2, 3), "bias": jnp.zeros(3, jnp.bfloat16)}
    }
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))
    state = TrainState.create(params, {"batch_stats": {}}, optimizer.init(params), has_average=True)
    history = [{"epoch": 1, "train_loss": math.nan, "seconds": 0.1}]
    progress = Progress(epoch=1, best=None, stopped=True, history=history)
    UNPICKLED.clear()
    found = distributed.from_primary(lambda: as_plain(state, progress))
    restored = Progress(**found["progress"])
    assert str(restored) == str(progress)
    other = jax.tree.map(jnp.zeros_like, state).with_leaves(found["leaves"])
    assert jax.tree.structure(other) == jax.tree.structure(state)
    for leaf, expected in zip(jax.tree.leaves(other), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(np.asarray(leaf), np.asarray(expected))
        assert leaf.dtype == expected.dtype
    assert not UNPICKLED


@pytest.mark.parametrize("value", [object(), print, [(1, 2)], {1, 2}])
def test_what_is_no_data_is_not_sent(value, two):
    with pytest.raises(TypeError):
        distributed.from_primary(lambda: value)


def test_a_tuple_arrives_as_a_list(two):
    assert distributed.from_primary(lambda: ("a", True, 3)) == ["a", True, 3]


def test_alone_it_is_what_it_is():
    value = object()
    assert distributed.from_primary(lambda: value) is value
