"""The mapped axis over which a batch is split between devices, and what layers need of it.

Each function also works where the program is not mapped over that axis: one device then has the
whole batch.
"""

import jax.numpy as jnp
from jax import lax

AXIS = "batch"


def mean_over_devices(tree):
    """Returns the mean of each leaf of `tree` over the devices that share a batch."""
    try:
        return lax.pmean(tree, AXIS)
    except NameError:  # JAX knows no such axis: there is one device
        return tree


def gather_batch(x):
    """Returns the whole batch [devices * B, ...], given each device's part of it [B, ...]."""
    try:
        return lax.all_gather(x, AXIS, tiled=True)
    except NameError:
        return x


def batch_positions(size: int):
    """Returns int32 [size]: the positions in the whole batch of this device's `size` examples."""
    positions = jnp.arange(size)
    try:
        return lax.axis_index(AXIS) * size + positions
    except NameError:
        return positions
