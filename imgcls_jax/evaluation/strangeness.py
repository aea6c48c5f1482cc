"""How strange an image is to a model: three scores, and images to choose between them.

A score is higher for a stranger image:

- max_probability: 1 minus the largest probability (Hendrycks & Gimpel, 2017, arXiv:1610.02136);
- energy: minus the log of the sum of the exponentials of the logits (Liu et al., 2020,
  arXiv:2010.03759);
- nearest: the distance to the k-th nearest of the validation images, between the pooled features
  scaled to length 1 (Sun et al., 2022, arXiv:2204.06507, who take training images: a model has
  learnt those, and they are nearer to each other than new ones are).
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from scipy.special import logsumexp
from scipy.stats import rankdata

from imgcls_jax.evaluation.scores import softmax

NUM_NEIGHBOURS = 5  # k of the score "nearest"
AT_ONCE = 1000  # images whose distances to all others are in memory
TILES = 4  # rows and columns of tiles into which `shuffled` cuts an image
SCORES = ("max_probability", "energy", "nearest")  # of equally good ones the first is chosen


@dataclasses.dataclass(frozen=True)
class Outputs:
    """What a model computes of N images: features float32 [N, F], logits float32 [N, K]."""

    features: np.ndarray
    logits: np.ndarray


class Neighbours:
    """Features to which the distance of others is measured, float32 [M, F] of length 1.

    They are rounded to half precision, in which they are stored.
    """

    def __init__(self, features: np.ndarray):
        self.features = _unit(features).astype(np.float16)
        self._transposed = self.features.astype(np.float32).T

    def distances(self, features: np.ndarray, *, are_neighbours: bool = False) -> np.ndarray:
        """Returns the distance of features [N, F] to the k-th nearest neighbour, float64 [N].

        are_neighbours: whether the features are those of the neighbours, in their order; then none
        is compared with itself.
        """
        vectors = _unit(features)
        k = min(NUM_NEIGHBOURS, len(self.features) - are_neighbours)
        nearest = []
        for start in range(0, len(vectors), AT_ONCE):
            cosines = vectors[start : start + AT_ONCE] @ self._transposed
            if are_neighbours:
                rows = np.arange(len(cosines))
                cosines[rows, start + rows] = -1.0
            nearest.append(np.partition(cosines, -k, axis=-1)[:, -k])
        cosine = np.concatenate(nearest).astype(np.float64)
        return np.sqrt(np.maximum(2 - 2 * cosine, 0))


def _unit(features: np.ndarray) -> np.ndarray:
    """Returns the features float32 [N, F] scaled to length 1; those that are all 0 stay."""
    lengths = np.linalg.norm(features, axis=-1, keepdims=True)
    return (features / np.maximum(lengths, 1e-12)).astype(np.float32)


def score(
    name: str,
    outputs: Outputs,
    neighbours: Neighbours | None = None,
    *,
    are_neighbours: bool = False,
) -> np.ndarray:
    """Returns the score of each image, float64 [N].

    Args:
      name: one of SCORES.
      outputs: of the images.
      neighbours: needed for the score "nearest".
      are_neighbours: whether these images are the neighbours.
    """
    logits = outputs.logits.astype(np.float64)
    if name == "max_probability":
        return 1 - softmax(logits).max(-1)
    if name == "energy":
        return -logsumexp(logits, axis=-1)
    assert name == "nearest" and neighbours is not None
    return neighbours.distances(outputs.features, are_neighbours=are_neighbours)


def auroc(usual: np.ndarray, strange: np.ndarray) -> float:
    """Returns the probability that a strange image has a higher score than a usual one, 0 to 1.

    Equal scores count half. It is the area under the ROC curve. usual: float [N]. strange: [M].
    """
    ranks = rankdata(np.concatenate([strange, usual]))
    above = ranks[: len(strange)].sum() - len(strange) * (len(strange) + 1) / 2
    return float(above / (len(strange) * len(usual)))


# Strange images, made of the usual ones: uint8 [N, H, W, C] of images like these and labels [N].


def noise(images: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns images of independent random pixels."""
    return rng.integers(0, 256, images.shape, dtype=np.uint8)


def shuffled(images: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the images with their 4 x 4 tiles in random order; what is left of a side stays."""
    count, height, width, channels = images.shape
    side = height // TILES, width // TILES
    result = images.copy()
    cut = result[:, : TILES * side[0], : TILES * side[1]]
    tiles = cut.reshape(count, TILES, side[0], TILES, side[1], channels).swapaxes(2, 3)
    tiles = tiles.reshape(count, TILES**2, *side, channels)
    order = rng.permuted(np.tile(np.arange(TILES**2), (count, 1)), axis=1)
    tiles = np.take_along_axis(tiles, order[:, :, None, None, None], axis=1)
    tiles = tiles.reshape(count, TILES, TILES, *side, channels).swapaxes(2, 3)
    cut[:] = tiles.reshape(cut.shape)
    return result


def mixed(images: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the means of pairs of images of two classes; of one class alone there are none."""
    order = np.argsort(labels, kind="stable")
    partners = np.roll(order, len(order) // 2)
    differ = labels[order] != labels[partners]
    first = images[order[differ]].astype(np.uint16)
    second = images[partners[differ]].astype(np.uint16)
    return ((first + second) // 2).astype(np.uint8)


STRANGE: Mapping[str, Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]] = {
    "noise": noise,
    "shuffled": shuffled,
    "mixed": mixed,
}
