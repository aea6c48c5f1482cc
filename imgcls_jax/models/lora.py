"""Low-rank adaptation (Hu et al., 2021, arXiv:2106.09685) as a reparametrisation of kernels.

A kernel [k, k, C, F] or [C, F] gets a pair of small matrices, `down` [C, rank] and `up` [rank, F].
The model applies the kernel plus alpha / rank * down @ up, which for a convolution is added to the
kernel's centre. That equals a 1x1 convolution with the kernel's stride down to `rank` channels and
another one back up, added to the output of the frozen convolution, if that one pads by k // 2. In
the full form `down` is [k, k, C, rank]: a k x k convolution and a 1x1 one. The model does not
change: it takes the merged kernels, and merging is exact.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import traverse_util
from ml_collections import ConfigDict

from imgcls_jax import trees
from imgcls_jax.errors import ConfigError

KEY = "lora"  # of the pairs in a tree of parameters

down_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def split(params: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the model's parameters, and the pairs under KEY ({} if there are none)."""
    model_params = dict(params)
    pairs = {}
    if KEY in model_params:
        pairs[KEY] = model_params.pop(KEY)
    return model_params, pairs


@dataclasses.dataclass(frozen=True)
class LoRA:
    """The settings of low-rank adaptation; it adds pairs to parameters, and merges them."""

    rank: int
    alpha: float
    full: bool = False

    @classmethod
    def from_config(cls, config: ConfigDict) -> "LoRA":
        """Returns what `adapt.lora` of a run's config says.

        Raises ConfigError if the rank is below 1.
        """
        settings = config.get("adapt", {}).get("lora", {"rank": 1, "alpha": 1.0, "full": False})
        if settings["rank"] < 1:
            raise ConfigError(f"config.adapt.lora.rank is {settings['rank']}: give 1 or more.")
        return cls(settings["rank"], settings["alpha"], settings["full"])

    def add(self, params: Mapping[str, Any], paths: list[str], key: jax.Array) -> dict[str, Any]:
        """Returns `params` with new pairs for the kernels at `paths`.

        They change nothing at first, since `up` is zero.

        Raises ConfigError if what is at a path can have no pair.
        """
        if not paths:
            return dict(params)
        leaves = trees.flatten(params)
        pairs = {}
        for path, pair_key in zip(paths, jax.random.split(key, len(paths)), strict=True):
            shape = leaves[path].shape
            self._check_shape(path, shape)
            *kernel_size, channels, features = shape
            down_shape = (channels, self.rank)
            if self.full:
                down_shape = (*kernel_size, *down_shape)
            pairs[path] = {
                "down": down_init(pair_key, down_shape),
                "up": jnp.zeros((self.rank, features)),
            }
        return {**params, KEY: traverse_util.unflatten_dict(pairs, sep="/")}

    def _check_shape(self, path: str, shape: tuple[int, ...]) -> None:
        kernel_size = shape[:-2]
        has_centre = all(size % 2 for size in kernel_size)
        if len(shape) not in (2, 4) or not (self.full or has_centre):
            raise ConfigError(
                f"config.adapt.lora.targets: {path} has the shape {shape}. Low-rank pairs are for "
                "kernels [C, F] and [k, k, C, F]; with adapt.lora.full=False k must be odd, so "
                "that the kernel has a centre."
            )

    def merge(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the model's parameters without pairs: each kernel plus what its pair adds."""
        params, pairs = split(params)
        if not pairs:
            return params
        leaves = traverse_util.flatten_dict(params, sep="/")
        pair_leaves = traverse_util.flatten_dict(pairs[KEY], sep="/")
        # Sorted, so that the program is the same, and its compiled form is found, in every process.
        for path in sorted({leaf_path.rpartition("/")[0] for leaf_path in pair_leaves}):
            down = pair_leaves[f"{path}/down"]
            up = pair_leaves[f"{path}/up"]
            leaves[path] = self._merged_kernel(leaves[path], down, up)
        return traverse_util.unflatten_dict(leaves, sep="/")

    def _merged_kernel(self, kernel, down, up):
        change = self.alpha / self.rank * (down @ up)
        change = change.astype(kernel.dtype)
        if change.ndim == kernel.ndim:
            return kernel + change
        height, width = kernel.shape[:2]
        return jnp.asarray(kernel).at[height // 2, width // 2].add(change)
