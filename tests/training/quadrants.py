"""A small problem that can be learned: which quadrant of an image is brighter."""

import numpy as np

from imgcls_jax.data.dataset import Dataset


def quadrants(count: int, seed: int, *, noise: int = 150, brighter: int = 55) -> Dataset:
    """8x8 images, noise with one brighter quadrant: the class."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, count).astype(np.int32)
    images = random.integers(0, noise, (count, 8, 8, 1))
    for image, label in zip(images, labels, strict=True):
        image[label // 2 * 4 :, label % 2 * 4 :][:4, :4] += brighter
    return Dataset(images.astype(np.uint8), labels, ("a", "b", "c", "d"))
