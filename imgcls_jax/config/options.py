"""The options of configs as flat tables by path, and which of them make two runs differ."""

from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

# Options that are no part of what a run is: where data, weights and features lie (their hashes are), how much of them
# lies on the devices or is evaluated at a time, on how many devices it is made, and in which order sums are taken.
WHERE = (
    *(
        "data.path",
        "data.cache",
        "data.device_budget",
        "pretrained.cache",
        "train.cpu_devices",
        "train.winograd",
    ),
    "train.eval_batch_size",
    *("adapt.feature_cache", "adapt.feature_folder", "adapt.feature_disk"),
)

# What versions did that did not have an option yet; where this says nothing it was off: 0, "" or ().
BEFORE = {
    **{"adapt.frozen_statistics": "stored", "adapt.lora.rank": 4, "adapt.lora.alpha": 4.0},
    **{"optimizer.decay_vectors": True, "train.views": "none"},
}


def flat_options(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested options by path: {"optimizer.name": "adam", ...}."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        nested = isinstance(value, Mapping | ConfigDict)
        flat |= flat_options(value, f"{prefix}{key}.") if nested else {prefix + key: value}
    return flat


def differing(
    one: Mapping[str, Any], other: Mapping[str, Any], *, free: Iterable[str]
) -> list[str]:
    """The paths of the options, but for those `free`, in which two configs (as of `flat_options`) differ.

    An option that one of them does not have, since it was made by another version, counts there as BEFORE says.
    """
    of = [BEFORE | config for config in (one, other)]
    return [
        key
        for key in sorted({*one, *other} - {*free})
        if of[0].get(key) != of[1].get(key) and (of[0].get(key) or of[1].get(key))
    ]
