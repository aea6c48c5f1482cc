"""Low-rank adaptation (Hu et al., 2021, arXiv:2106.09685) as a reparametrisation of kernels.

Beside a kernel [k, k, C, F] or [C, F] stand `down` [C, rank] and `up` [rank, F]. What is added to the kernel is
alpha / rank * down @ up, at the kernel's centre where it has places: the same as a 1x1 convolution with the kernel's
stride down to `rank` channels and another one back up, added to the output of the frozen convolution, where that one
pads by k // 2. In the full form `down` is [k, k, C, rank]: a k x k convolution and a 1x1 one. The model never knows: it
is applied to the merged kernels, and merging is exact.
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

KEY = "lora"  # where the low-rank pairs stand in a tree of parameters


def apart(params: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The model's own parameters, and the rest: the pairs under their key."""
    own = {key: value for key, value in params.items() if key != KEY}
    return own, {key: value for key, value in params.items() if key == KEY}


_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def of(config: ConfigDict) -> "LoRA":
    """As `adapt.lora` of a run's config has it. Raises ConfigError for a rank that cannot be."""
    settings = config.get("adapt", {}).get("lora", {"rank": 1, "alpha": 1.0, "full": False})
    if settings["rank"] < 1:
        raise ConfigError(f"adapt.lora.rank is {settings['rank']}: give 1 or more.")
    return LoRA(settings["rank"], settings["alpha"], settings["full"])


@dataclasses.dataclass(frozen=True)
class LoRA:
    rank: int
    alpha: float
    full: bool = False

    def add(self, params: Mapping[str, Any], paths: list[str], key: jax.Array) -> dict[str, Any]:
        """`params` with pairs for the kernels at `paths`: as they stand they add nothing, since `up` is zero.

        Raises ConfigError where a path leads to something without low-rank pairs.
        """
        leaves, pairs = trees.flatten(params), {}
        for path, each in zip(paths, jax.random.split(key, max(len(paths), 1)), strict=False):
            shape = leaves[path].shape
            places, channels = shape[:-2], shape[-2:]
            if len(shape) not in (2, 4) or (
                places and not self.full and not all(side % 2 for side in places)
            ):
                raise ConfigError(
                    f"adapt.lora.targets: {path} has the shape {shape}; low-rank pairs are for kernels [C, F] and "
                    "[k, k, C, F], and at their centre (adapt.lora.full=False) for odd k."
                )
            down = (*places, channels[0], self.rank) if self.full else (channels[0], self.rank)
            pairs[path] = {"down": _init(each, down), "up": jnp.zeros((self.rank, channels[1]))}
        return (
            {**params, KEY: traverse_util.unflatten_dict(pairs, sep="/")} if pairs else dict(params)
        )

    def merge(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters of the model: kernels with what their pairs add, and no pairs."""
        params = dict(params)
        pairs = traverse_util.flatten_dict(params.pop(KEY, {}), sep="/")
        if not pairs:
            return params
        flat = traverse_util.flatten_dict(params, sep="/")
        for path in {path.rsplit("/", 1)[0] for path in pairs}:
            kernel, change = flat[path], self.change(pairs[f"{path}/down"], pairs[f"{path}/up"])
            if kernel.ndim > change.ndim:
                centre = tuple(side // 2 for side in kernel.shape[:2])
                flat[path] = jnp.asarray(kernel).at[centre].add(change.astype(kernel.dtype))
            else:
                flat[path] = kernel + change.astype(kernel.dtype)
        return traverse_util.unflatten_dict(flat, sep="/")

    def change(self, down, up):
        """What a pair adds to its kernel, or to the centre of it."""
        return self.alpha / self.rank * (down @ up)
