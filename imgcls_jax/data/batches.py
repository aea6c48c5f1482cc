"""The order of the examples.

In training it is a function of seed and epoch alone, so that a resumed run sees the same batches.
"""

import numpy as np


def filled_batches(examples: int, batch_size: int) -> np.ndarray:
    """Returns batches of all examples in order, as indices int32 [batches, batch_size].

    The last batch is filled up with the first examples, so that one compiled program serves all
    batches. Callers drop the results beyond `examples`.
    """
    batches = -(-examples // batch_size)  # rounded up
    return np.resize(np.arange(examples, dtype=np.int32), (batches, batch_size))


def steps_in_epoch(examples: int, batch_size: int) -> int:
    """Returns the number of whole batches in an epoch."""
    return examples // batch_size


def sampled_shares(counts: np.ndarray, balance: float) -> np.ndarray:
    """Returns the shares of the classes among the examples of an epoch, float64 [K].

    counts: int [K], examples of each class. balance: from 0, where the shares are those of the
    counts, to 1, where they are equal; in between they follow counts^(1 - balance). A class without
    examples has none.
    """
    has_examples = counts > 0
    powers = np.zeros(len(counts))
    powers[has_examples] = counts[has_examples] ** (1.0 - balance)
    return powers / powers.sum()


def balanced_batches(
    labels: np.ndarray, batch_size: int, *, balance: float, seed: int, epoch: int
) -> np.ndarray:
    """Returns the batches of an epoch, as `epoch_batches` does, with `sampled_shares` of the classes.

    labels: int [N]. An epoch has as many examples as ever. The number of each class is its share of
    them, up or down to a whole number at random; its own examples occur equally often, up to one.
    """
    if not balance:
        return epoch_batches(len(labels), batch_size, seed=seed, epoch=epoch)
    generator = np.random.default_rng([seed, epoch])
    expected = len(labels) * sampled_shares(np.bincount(labels), balance)
    # Systematic sampling: whole numbers with these means that add up to the number of examples.
    ends = np.floor(np.cumsum(expected) + generator.random()).astype(np.int64)
    ends[-1] = len(labels)
    quotas = np.diff(ends, prepend=0)
    parts = []
    for label, quota in enumerate(quotas):
        members = np.flatnonzero(labels == label)
        while quota > 0:
            part = generator.permutation(members)[:quota]
            parts.append(part)
            quota -= len(part)
    examples = np.concatenate(parts)
    order = generator.permutation(len(examples))
    steps = steps_in_epoch(len(examples), batch_size)
    batches = examples[order[: steps * batch_size]].astype(np.int32)
    return batches.reshape(steps, batch_size)


def epoch_batches(examples: int, batch_size: int, *, seed: int, epoch: int) -> np.ndarray:
    """Returns the batches of an epoch, as indices int32 [steps, batch_size].

    Each example occurs at most once. Those that do not fill a batch are left out, other ones in
    each epoch.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(examples).astype(np.int32)
    steps = steps_in_epoch(examples, batch_size)
    return order[: steps * batch_size].reshape(steps, batch_size)
