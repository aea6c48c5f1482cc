"""Seeded, stratified splits of a training set."""

import math

import numpy as np

from imgcls_jax.errors import ConfigError


def stratified_split(
    labels: np.ndarray, size: float, seed: int, *, option: str = "data.validation_size"
) -> tuple[np.ndarray, np.ndarray]:
    """Splits examples in two parts that both keep the shares of the classes.

    labels: int [N]. size: of the second part, a share of N if it is below 1, else a number of
    examples. option: the config option of `size`, for errors. Returns sorted indices, int64, of
    the first and the second part. The size of the second part is exact: what rounding down leaves
    goes to the classes with the largest remainders. Every class keeps at least one example in the
    first part.

    Raises ConfigError for a size that is not possible.
    """
    classes, class_counts = np.unique(labels, return_counts=True)
    count = _count_of(size, total=len(labels), num_classes=len(classes), option=option)
    if seed < 0:
        raise ConfigError(f"config.data.split_seed is {seed}: give 0 or a positive number.")
    parts = []
    for label, quota in zip(classes, _quotas(class_counts, count), strict=True):
        # A random stream for each class: a change in one class does not change the others.
        generator = np.random.default_rng((seed, int(label)))
        parts.append(generator.permutation(np.flatnonzero(labels == label))[:quota])
    second = np.sort(np.concatenate(parts))
    first = np.setdiff1d(np.arange(len(labels)), second, assume_unique=True)
    return first, second


def stratified_fold(
    labels: np.ndarray, *, fold: int, folds: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Splits examples in the fold `fold` of `folds`, counted from 0, and the rest.

    labels: int [N]. Returns sorted indices, int64, of the rest and of the fold. Each example is in
    one fold. Folds differ by at most one example, also of each class.

    Raises ConfigError if a class has fewer examples than there are folds.
    """
    classes, class_counts = np.unique(labels, return_counts=True)
    if class_counts.min() < folds:
        raise ConfigError(
            f"config.data.folds is {folds}, but a class has only {class_counts.min()} training "
            "images: each fold needs an image of each class. Give fewer folds."
        )
    parts = []
    for label in classes:
        generator = np.random.default_rng((seed, int(label)))
        parts.append(generator.permutation(np.flatnonzero(labels == label)))
    second = np.sort(np.concatenate(parts)[fold::folds])
    first = np.setdiff1d(np.arange(len(labels)), second, assume_unique=True)
    return first, second


def stratified_share(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Returns the sorted indices, int64, of a share of each class, rounded up.

    labels: int [N]. share: above 0, at most 1. Every class keeps at least one example.
    """
    parts = []
    for label in np.unique(labels):
        generator = np.random.default_rng((seed, int(label)))
        examples = generator.permutation(np.flatnonzero(labels == label))
        parts.append(examples[: math.ceil(share * len(examples))])
    return np.sort(np.concatenate(parts))


def long_tailed(labels: np.ndarray, ratio: float, seed: int) -> np.ndarray:
    """Returns the sorted indices, int64, of a long-tailed part of the examples.

    labels: int [N]. Of the i-th of C classes n * ratio^(-i / (C - 1)) examples are kept, rounded
    down but at least one (Cui et al., 2019, arXiv:1901.05555), where n is the number of examples of
    the smallest class: all classes have as many in CIFAR-10, the set of the paper.
    """
    classes, class_counts = np.unique(labels, return_counts=True)
    exponents = np.linspace(0, -1, len(classes))
    quotas = class_counts.min() * float(ratio) ** exponents
    quotas = np.floor(quotas + 1e-6).astype(np.int64)  # 49.999... is a rounded 50
    parts = []
    for label, quota in zip(classes, quotas, strict=True):
        generator = np.random.default_rng((seed, int(label)))
        examples = generator.permutation(np.flatnonzero(labels == label))
        parts.append(examples[: max(quota, 1)])
    return np.sort(np.concatenate(parts))


def _count_of(size: float, *, total: int, num_classes: int, option: str) -> int:
    """Returns the number of examples that `size` asks for. Raises ConfigError if it cannot be."""
    most = total - num_classes
    if size < 1:
        count = round(size * total)
    else:
        count = int(size)
        if size != count:
            raise ConfigError(
                f"config.{option} is {size}: give a share below 1 or a whole number of examples."
            )
    if count < 1:
        reason = ""
        if "validation" in option:
            reason = " The validation set picks the checkpoint, so it cannot be empty."
        raise ConfigError(
            f"config.{option} is {size:g}, which is {max(count, 0)} of {total} examples.{reason} "
            f"Give a share between 0 and 1 or a number from 1 to {most}."
        )
    if count > most:
        raise ConfigError(
            f"config.{option} is {size:g}, which is {count} of {total} examples; at most {most} "
            f"can be held out, since each of the {num_classes} classes keeps at least one for "
            f"training. The number may be meant for larger data: --config.{option}=0.1 takes a "
            "tenth."
        )
    return count


def _quotas(class_counts: np.ndarray, count: int) -> np.ndarray:
    """Returns how many of `count` each class gives, by largest remainder.

    No class gives all of its examples.
    """
    total = class_counts.sum()
    products = class_counts.astype(np.int64) * count
    quotas = products // total
    remainders = products % total
    order = np.argsort(-remainders, kind="stable")
    missing = count - quotas.sum()
    while missing > 0:
        # Classes that cannot give more are passed over, so one round may not be enough.
        open_classes = order[quotas[order] < class_counts[order] - 1]
        quotas[open_classes[:missing]] += 1
        missing = count - quotas.sum()
    return quotas
