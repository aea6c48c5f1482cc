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


def epoch_batches(examples: int, batch_size: int, *, seed: int, epoch: int) -> np.ndarray:
    """Returns the batches of an epoch, as indices int32 [steps, batch_size].

    Each example occurs at most once. Those that do not fill a batch are left out, other ones in
    each epoch.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(examples).astype(np.int32)
    steps = steps_in_epoch(examples, batch_size)
    return order[: steps * batch_size].reshape(steps, batch_size)
