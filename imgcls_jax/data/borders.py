"""The ground that drawings of one channel are on: paper, or the black of MNIST."""

import numpy as np


def border(images: np.ndarray) -> np.ndarray:
    """Returns the median brightness of the outermost twentieth of images [..., H, W], [...].

    This is an image's ground, wherever something is drawn.
    """
    height, width = images.shape[-2:]
    thickness = max(round(min(height, width) / 20), 1)
    is_border = np.ones((height, width), bool)
    is_border[thickness:-thickness, thickness:-thickness] = False
    return np.median(images[..., is_border], axis=-1)


def has_light_border(images: np.ndarray) -> np.ndarray:
    """Returns whether images [..., H, W], uint8, have a light ground, bool [...]."""
    return border(images) > 127
