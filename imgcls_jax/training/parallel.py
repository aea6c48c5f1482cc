"""Data parallelism: all that training and prediction know of devices.

A function on one device's part of a batch becomes one over all devices by `jax.pmap`, or by `jax.jit`
over a mesh with `jax.shard_map`, which JAX recommends since pmap is in maintenance. Both give the
same bits. State is replicated, batches are split, and whatever depends on the whole batch (gradients,
batch statistics, metrics) is averaged over the axis, so that the number of devices changes results by
rounding only. Each of several processes feeds its own devices.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from imgcls_jax.errors import ConfigError
from imgcls_jax.models.batch_axis import AXIS, mean_over_devices

BACKENDS = ("pmap", "shard_map")  # of config.train.parallel


def check_backend(backend: str) -> None:
    """Raises ConfigError if several processes are to train with a backend that is for one."""
    if backend == "shard_map" and jax.process_count() > 1:
        raise ConfigError(
            f"train.parallel is 'shard_map', which trains in one process, and there are "
            f"{jax.process_count()}: use --config.train.parallel=pmap."
        )


def check_batch_size(option: str, size: int) -> None:
    """Raises ConfigError if `size` examples cannot be split evenly over the devices."""
    num_devices = jax.device_count()
    if size < 1 or size % num_devices:
        nearest = max(num_devices, round(size / num_devices) * num_devices)
        raise ConfigError(
            f"{option} is {size}, which cannot be split evenly over {num_devices} devices: "
            f"give {nearest}, for example."
        )


def data_parallel(
    function: Callable,
    *,
    in_axes: Sequence[int | None],
    out_axes: int | tuple | None = 0,
    donate_argnums: Sequence[int] = (),
    devices: Sequence[jax.Device] | None = None,
    backend: str = "pmap",
) -> Callable:
    """Returns `function` as one program over all devices, compiled on its first call.

    Args:
        function: what one device computes; collectives over `AXIS` reach the other devices.
        in_axes: for each argument 0 if its leading axis is the device, None if it is replicated.
        out_axes: the same of the results.
        donate_argnums: arguments whose memory the results may take.
        devices: those that share the work; None for all, of all processes.
        backend: one of BACKENDS.
    """
    if backend == "pmap":
        return jax.pmap(
            function,
            axis_name=AXIS,
            in_axes=tuple(in_axes),
            out_axes=out_axes,
            donate_argnums=donate_argnums,
            devices=devices,
        )

    def on_one_device(*arguments):
        parts = []
        for argument, axis in zip(arguments, in_axes, strict=True):
            parts.append(argument if axis is None else argument[0])
        results = function(*parts)
        if out_axes == 0:
            results = jax.tree.map(lambda array: array[None], results)
        return results

    mesh = Mesh(np.array(devices or jax.devices()), (AXIS,))
    in_specs = tuple(PartitionSpec() if axis is None else PartitionSpec(AXIS) for axis in in_axes)
    out_specs = PartitionSpec(AXIS) if out_axes == 0 else PartitionSpec()
    mapped = jax.shard_map(
        on_one_device, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
    )
    return jax.jit(mapped, donate_argnums=donate_argnums)


def replicate(tree: Any, *, to_donate: bool = False) -> Any:
    """Returns the tree on every device of this process.

    to_donate: whether in memory of its own, since a step takes the memory of the state it is given;
    otherwise it may share memory with `tree`.
    """
    mesh = Mesh(np.array(jax.local_devices()), (AXIS,))
    if to_donate:
        tree = jax.tree.map(jnp.copy, tree)
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def fetch(tree: Any) -> Any:
    """Returns a replicated tree as NumPy arrays of its own, which later steps do not overwrite."""
    return jax.tree.map(lambda leaf: np.array(leaf.addressable_data(0)), tree)


def split_batches(
    batches: np.ndarray, num_steps: int, *, across_processes: bool = True
) -> np.ndarray:
    """Splits batches over the devices.

    Args:
        batches: int32 [k, B], k <= num_steps.
        num_steps: steps of the program; those beyond k are filled with zeros.
        across_processes: whether each of several processes gets its part of B; otherwise all of it.

    Returns:
        int32 [local devices, num_steps, B / devices].
    """
    padded = np.zeros((num_steps, batches.shape[1]), np.int32)
    padded[: len(batches)] = batches
    num_local = jax.local_device_count()
    num_devices = jax.device_count() if across_processes else num_local
    first = jax.process_index() * num_local if across_processes else 0
    by_device = padded.reshape(num_steps, num_devices, -1).swapaxes(0, 1)
    return by_device[first : first + num_local]


def gather_processes(array: jax.Array) -> np.ndarray:
    """Concatenates what the processes have, [D, ...] each, along the device axis."""
    return multihost_utils.process_allgather(array, tiled=True)


def mean_gradients(tree: Any) -> Any:
    """Averages a tree over the devices, inside a step.

    Between processes as one vector, since every sum over a network takes its time.
    """
    if jax.process_count() == 1:
        return mean_over_devices(tree)
    vector, unravel = ravel_pytree(tree)
    return unravel(mean_over_devices(vector))
