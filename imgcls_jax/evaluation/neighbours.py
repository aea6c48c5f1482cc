"""Copies, near duplicates and outliers among images, by their digests and their vectors."""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

MAX_DIMENSIONS = 256
NUM_NEIGHBOURS = 10
SAMPLE = 20_000  # examples from which the principal components are computed
WHITENING = 0.1  # is added to the variances of components, as a share of their mean
# A near duplicate is nearer than this share of the distance to the tenth neighbour.
NEAR = 0.5
FAR_OUT = 3.0  # Tukey's multiple of the quartiles' distance beyond which a value is far out


def principal_components(vectors: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Returns the first principal components of standardized vectors, float32 [N, D].

    They are scaled so that the mean square of a vector's length is 1.

    vectors: float32 [N, F]. D is at most MAX_DIMENSIONS, N and F.
    """
    generator = np.random.default_rng(seed)
    size = min(SAMPLE, len(vectors))
    sample = vectors[np.sort(generator.choice(len(vectors), size, replace=False))]
    mean = sample.mean(0)
    scale = np.maximum(sample.std(0), 1e-6)
    count = min(MAX_DIMENSIONS, *sample.shape)
    analysis = PCA(count, svd_solver="randomized", iterated_power=2, random_state=seed)
    analysis.fit((sample - mean) / scale)
    components = analysis.transform((vectors - mean) / scale)
    length = np.sqrt(np.square(components).sum(1).mean())
    return (components / max(length, 1e-6)).astype(np.float32)


def whitened(components: np.ndarray) -> np.ndarray:
    """Returns principal components at nearly equal variances, float32 [N, D].

    A classifier with a penalty of its weights uses them better. The mean square of a vector's
    length is 1. components: float32 [N, D].
    """
    variances = components.var(0)
    variances += WHITENING * variances.mean()
    vectors = components / np.sqrt(np.maximum(variances, 1e-12))
    length = np.sqrt(np.square(vectors).sum(1).mean())
    return vectors / max(length, 1e-6)


def nearest(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the distances to the nearest other examples, float [N, k], and these, int64 [N, k].

    They are distances of the vectors at unit length. k is NUM_NEIGHBOURS, or the number of all
    other examples if there are fewer.
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = vectors / np.maximum(lengths, 1e-12)
    count = min(NUM_NEIGHBOURS, len(vectors) - 1)
    search = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(units)
    return search.kneighbors()  # without an example itself


def copies(digests: np.ndarray) -> list[np.ndarray]:
    """Returns groups of examples, int64, whose images are the same, the largest group first.

    digests: uint64 [N], as of `checks.image_digests`.
    """
    order = np.argsort(digests, kind="stable")
    breaks = np.flatnonzero(np.diff(digests[order])) + 1
    groups = [np.sort(group) for group in np.split(order, breaks) if len(group) > 1]
    return sorted(groups, key=lambda group: (-len(group), group[0]))


def near_duplicates(
    distances: np.ndarray, neighbours: np.ndarray, digests: np.ndarray
) -> list[tuple[int, int, float]]:
    """Returns pairs of examples that are far nearer to each other than to others, nearest first.

    The third figure is their distance as a share of that to the last neighbour; it is at most NEAR.
    Exact copies are left out. distances, neighbours: as of `nearest`. digests: uint64 [N].
    """
    shares = distances / np.maximum(distances[:, -1:], 1e-12)
    pairs: dict[tuple[int, int], float] = {}
    for example, rank in np.argwhere(shares <= NEAR):
        neighbour = neighbours[example, rank]
        if digests[example] == digests[neighbour]:
            continue
        pair = (int(min(example, neighbour)), int(max(example, neighbour)))
        pairs[pair] = min(float(shares[example, rank]), pairs.get(pair, 1.0))
    ranked = sorted(pairs.items(), key=lambda item: (item[1], item[0]))
    return [(first, second, share) for (first, second), share in ranked]


def outliers(distances: np.ndarray) -> np.ndarray:
    """Returns the examples that are far from their neighbours, int64, the farthest first.

    Their mean distance is above the upper quartile by FAR_OUT times the distance of the quartiles
    (Tukey, "Exploratory Data Analysis", 1977). distances: as of `nearest`.
    """
    means = distances.mean(1)
    low, high = np.quantile(means, [0.25, 0.75])
    examples = np.flatnonzero(means > high + FAR_OUT * (high - low))
    return examples[np.argsort(-means[examples], kind="stable")]
