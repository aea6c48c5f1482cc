"""The order of the examples: in training a function of seed and epoch alone, so that a resumed run takes the same."""

import numpy as np


def filled_batches(examples: int, batch_size: int) -> np.ndarray:
    """Every example in order: indices int32 [batches, batch_size], the last batch filled up with the first examples.

    What comes of them is cut off after `examples`: all batches are of one size, so that one program serves.
    """
    count = -(-examples // batch_size)
    return np.resize(np.arange(examples, dtype=np.int32), (count, batch_size))


def steps_in_epoch(examples: int, batch_size: int) -> int:
    """Whole batches in an epoch."""
    return examples // batch_size


def epoch_batches(examples: int, batch_size: int, *, seed: int, epoch: int) -> np.ndarray:
    """The epoch's batches: indices int32 [steps, batch_size], each example once at most.

    What does not fill a batch is left out: other examples each epoch.
    """
    order = np.random.default_rng([seed, epoch]).permutation(examples).astype(np.int32)
    steps = steps_in_epoch(examples, batch_size)
    return order[: steps * batch_size].reshape(steps, batch_size)
