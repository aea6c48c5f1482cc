"""Seeded, stratified splits of a training set."""

import numpy as np

from imgcls_jax.errors import ConfigError


def stratified_split(
    labels: np.ndarray, size: float, seed: int, *, option: str = "data.validation"
) -> tuple[np.ndarray, np.ndarray]:
    """Splits examples in two so that both parts keep the shares of the classes.

    labels: int [N]; size: of the second part, a share of N below 1 or a number of examples; option: the config option
    that `size` comes from, for errors. Returns sorted indices (rest, part), int64. The size of `part` is exact: what
    rounding down leaves over goes to the classes with the largest remainders. Every class keeps at least one example
    in `rest`.

    Errors: ConfigError for a size that cannot be had.
    """
    total = len(labels)
    count = round(size * total) if size < 1 else int(size)
    classes, class_counts = np.unique(labels, return_counts=True)
    most = total - len(classes)
    if size >= 1 and size != count:
        raise ConfigError(
            f"config.{option} is {size}: give a share below 1 or a whole number of examples."
        )
    if count < 1:
        why = (
            " The validation set picks the checkpoint, so it cannot be empty."
            if "validation" in option
            else ""
        )
        raise ConfigError(
            f"config.{option} is {size:g}, which is {max(count, 0)} of {total} examples.{why} "
            f"Give a share between 0 and 1 or a number from 1 to {most}."
        )
    if count > most:
        raise ConfigError(
            f"config.{option} is {size:g}, which is {count} of {total} examples; at most {most} can be held out, since "
            f"each of the {len(classes)} classes keeps at least one for training. Give a smaller share or number."
        )
    if seed < 0:
        raise ConfigError(f"config.data.split_seed is {seed}: give 0 or a positive number.")
    part = []
    for label, quota in zip(classes, _quotas(class_counts, count), strict=True):
        # Each class has a stream of its own, so that a change in one class leaves the choice in the others as it was.
        rng = np.random.default_rng((seed, int(label)))
        part.append(rng.permutation(np.flatnonzero(labels == label))[:quota])
    part = np.sort(np.concatenate(part))
    rest = np.setdiff1d(np.arange(total), part, assume_unique=True)
    return rest, part


def _quotas(class_counts: np.ndarray, count: int) -> np.ndarray:
    """How many of `count` each class gives, by largest remainder, one short of all of them at most."""
    products = class_counts.astype(np.int64) * count
    quotas, remainders = products // class_counts.sum(), products % class_counts.sum()
    order = np.argsort(-remainders, kind="stable")
    while (left := count - quotas.sum()) > 0:
        # Classes that may not give more are passed over, so it can take more than one round.
        open_classes = order[quotas[order] < class_counts[order] - 1]
        quotas[open_classes[:left]] += 1
    return quotas
