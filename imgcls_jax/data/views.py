"""Views of an image for test-time augmentation: a prediction averages over their logits."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

View = Callable[[jax.Array], jax.Array]  # float32 [B, H, W, C] -> the same shape


def _identity(images):
    return images


def _mirror(images):
    return images[:, :, ::-1]


def _shift(images, down: int, right: int):
    """Moves images by up to a pixel each way. What comes in at the sides is reflected."""
    height, width = images.shape[1:3]
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    return padded[:, 1 - down : 1 - down + height, 1 - right : 1 - right + width]


def _down_right(images):
    return _shift(images, 1, 1)


def _up_left(images):
    return _shift(images, -1, -1)


# By name, the views with their weights, which add up to 1.
VIEWS: Mapping[str, tuple[tuple[float, View], ...]] = {
    "none": ((1.0, _identity),),
    "flip": ((0.5, _identity), (0.5, _mirror)),
    # As in airbench (Jordan, 2024): half of the weight on the centre, each view also mirrored.
    "flip_shift": (
        (0.25, _identity),
        (0.25, _mirror),
        (0.125, _down_right),
        (0.125, lambda images: _mirror(_down_right(images))),
        (0.125, _up_left),
        (0.125, lambda images: _mirror(_up_left(images))),
    ),
}
