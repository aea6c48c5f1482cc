"""Views of an image over whose logits a prediction averages (test-time augmentation): no randomness."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

View = Callable[[jax.Array], jax.Array]  # float32 [B, H, W, C] -> the same shape


def _same(images):
    return images


def _mirror(images):
    return images[:, :, ::-1]


def _shifted(down: int, right: int) -> View:
    """Moves the images by up to a pixel each way; what comes in at the sides is reflected."""

    def shift(images):
        height, width = images.shape[1:3]
        padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
        return padded[:, 1 - down : 1 - down + height, 1 - right : 1 - right + width]

    return shift


def _mirrored(view: View) -> View:
    return lambda images: _mirror(view(images))


VIEWS: Mapping[str, tuple[tuple[float, View], ...]] = {  # with their weights, which add up to 1
    "none": ((1.0, _same),),
    "flip": ((0.5, _same), (0.5, _mirror)),
    # As airbench (Jordan, 2024) has it: half the weight on the centre, and each view beside its mirror image.
    "flip_shift": tuple(
        (weight / 2, mirrored)
        for weight, view in ((0.5, _same), (0.25, _shifted(1, 1)), (0.25, _shifted(-1, -1)))
        for mirrored in (view, _mirrored(view))
    ),
}
