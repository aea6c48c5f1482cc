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

from imgcls_jax.evaluation.scores import softmax

NUM_NEIGHBOURS = 5  # k of the score "nearest"
AT_ONCE = 1000  # images whose distances to all others are in memory
SHORTEST = 1e-12  # length of features that is divided by
TILES = 4  # rows and columns of tiles into which `shuffled` cuts an image
SCORES = ("max_probability", "energy", "nearest")  # of equally good ones the first is chosen


@dataclasses.dataclass(frozen=True)
class Outputs:
    """What a model computes of N images: features float32 [N, F], logits float32 [N, K]."""

    features: np.ndarray
    logits: np.ndarray


class Neighbours:
    """Features float16 [M, F] of length 1, to which the distance of others is measured."""

    def __init__(self, features: np.ndarray):
        self.features = _unit(features).astype(np.float16)
        self._vectors = self.features.astype(np.float32)

    def distances(
        self,
        features: np.ndarray,
        *,
        are_neighbours: bool = False,
    ) -> np.ndarray:
        """Returns the distance of features [N, F] to the k-th nearest neighbour, float64 [N].

        are_neighbours: whether the features are those of the neighbours, in their order; then none
        is compared with itself.
        """
        vectors = _unit(features)
        k = min(NUM_NEIGHBOURS, len(self._vectors) - are_neighbours)
        nearest = []
        for start in range(0, len(vectors), AT_ONCE):
            chunk = vectors[start : start + AT_ONCE]
            cosines = chunk @ self._vectors.T
            if are_neighbours:
                rows = np.arange(len(chunk))
                cosines[rows, start + rows] = -1.0
            cosines.partition(-k)
            nearest.append(cosines[:, -k])
        cosine = np.concatenate(nearest).astype(np.float64)
        squares = np.maximum(2 - 2 * cosine, 0)
        return np.sqrt(squares)


def _unit(features: np.ndarray) -> np.ndarray:
    """Returns the features float32 [N, F] scaled to length 1; those that are all 0 stay."""
    features = features.astype(np.float32)
    squares = (features**2).sum(-1, keepdims=True)
    lengths = np.sqrt(squares)
    return features / np.maximum(lengths, SHORTEST)


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
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([strange, usual]))
    ranks_among_strange = rankdata(strange)
    usual_below = ranks[: len(strange)] - ranks_among_strange  # of each strange image
    return float(usual_below.mean() / len(usual))


# Strange images, made of usual ones: images uint8 [N, H, W, C] of these with their labels [N].


def noise(images, labels, rng):
    """Returns images of independent random pixels."""
    return rng.integers(0, 256, images.shape, np.uint8)


def shuffled(images, labels, rng):
    """Returns the images with their tiles in random order; what is left of a side stays."""
    tiles = _tiles(*images.shape[1:3])
    result = images.copy()
    for source, target in zip(images, result, strict=True):
        order = rng.permutation(len(tiles))
        for tile, index in zip(tiles, order, strict=True):
            target[tile] = source[tiles[index]]
    return result


def _tiles(height: int, width: int) -> list[tuple[slice, slice]]:
    """Returns rows and columns of the tiles of an image, at least TILES in each direction."""
    tile_height = max(height // TILES, 1)
    tile_width = max(width // TILES, 1)
    tiles = []
    for y in range(0, height - tile_height + 1, tile_height):
        for x in range(0, width - tile_width + 1, tile_width):
            rows = slice(y, y + tile_height)
            columns = slice(x, x + tile_width)
            tiles.append((rows, columns))
    return tiles


def mixed(images, labels, rng):
    """Returns the means of pairs of images of two classes; of one class alone there are none."""
    order = np.argsort(labels, kind="stable")
    partners = np.roll(order, len(order) // 2)
    differ = labels[order] != labels[partners]
    first = images[order[differ]].astype(np.uint16)
    second = images[partners[differ]]
    means = (first + second) // 2
    return means.astype(np.uint8)


# By name: takes images, labels and a NumPy generator.
STRANGE: Mapping[str, Callable[..., np.ndarray]] = {
    "noise": noise,
    "shuffled": shuffled,
    "mixed": mixed,
}
