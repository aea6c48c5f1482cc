"""Sets of classes that contain the true class of an image with a chosen probability.

This is split conformal prediction (Vovk et al., 2005): a score says how badly a class fits an
image, and a set has all classes whose score is not above a quantile of the scores that true classes
have on images held out from training. If new images are like those, the sets contain the true class
at least as often as was asked, whatever the model is. The score is that of adaptive prediction sets
(Romano et al., 2020, arXiv:2006.02544) without their random part: the probability of all classes
that are more probable. So a set has the most probable class, and those that follow it until enough
probability is covered.
"""

import math

import numpy as np

from imgcls_jax.errors import RunError

ROUNDING = 1e-6  # of the rank of a quantile: 10 * 0.7 is 7, though not in floating point


def fewest_examples(level: float) -> int:
    """Returns the number of scores from which `quantile` has one for the level."""
    return math.ceil(level / (1 - level) - ROUNDING)


def quantile(scores: np.ndarray, level: float) -> float:
    """Returns the bound that one more score is not above, with at least the probability `level`.

    It is the ceil((N + 1) * level)-th smallest of the scores [N], which holds for any distribution
    as long as the scores and the new one are exchangeable. Raises RunError if N is below
    `fewest_examples(level)`.
    """
    count = len(scores)
    rank = math.ceil((count + 1) * level - ROUNDING)
    if rank > count:
        fewest = fewest_examples(level)
        raise RunError(f"{count} scores have no quantile at {level:g}: it takes {fewest}.")
    smallest_first = np.sort(scores)
    return float(smallest_first[max(rank, 1) - 1])


def mass_above(probabilities: np.ndarray) -> np.ndarray:
    """Returns the probability of all classes more probable than each, float64 [N, K].

    It is 0 for the most probable class. Of equally probable ones the first counts as more probable.
    """
    probabilities = np.asarray(probabilities, np.float64)
    most_probable_first = np.argsort(-probabilities, kind="stable")
    ranked = np.take_along_axis(probabilities, most_probable_first, axis=-1)
    masses_so_far = ranked.cumsum(-1)
    above = np.zeros_like(ranked)
    above[:, 1:] = masses_so_far[:, :-1]
    masses = np.empty_like(above)
    np.put_along_axis(masses, most_probable_first, above, axis=-1)
    return masses


def fit(probabilities: np.ndarray, labels: np.ndarray, coverage: float) -> float:
    """Returns the `most` of `sets`, with which these contain the true class at that coverage.

    probabilities [N, K] and labels [N] are of images that the model was not trained on. Raises
    RunError if there are too few of them.
    """
    masses = mass_above(probabilities)
    examples = np.arange(len(labels))
    return quantile(masses[examples, labels], coverage)


def sets(probabilities: np.ndarray, most: float) -> np.ndarray:
    """Returns whether each class is in the set of each image, bool [N, K].

    A class is, if those more probable have at most the probability `most`; the most probable one
    always is.
    """
    return mass_above(probabilities) <= most
