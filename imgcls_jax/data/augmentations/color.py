"""Random changes of colour."""

import dataclasses

import jax
import jax.numpy as jnp

from imgcls_jax.data.image_ops import Op, finite, require

LUMA = (0.299, 0.587, 0.114)  # the weights of red, green and blue in gray


@dataclasses.dataclass(frozen=True)
class RandomGray(Op):
    """Turns an image gray with the given probability. It keeps its three channels."""

    signature = "random_gray(probability)"
    random = True
    probability: float

    def __post_init__(self):
        require(
            finite(self.probability) and 0 <= self.probability <= 1,
            f"give a probability from 0 to 1, not {self.probability!r}",
        )

    def __call__(self, images, keys):
        def draw(key):
            return jax.random.bernoulli(key, self.probability)

        chosen = jax.vmap(draw)(keys)
        return jnp.where(chosen[:, None, None, None], to_gray(images), images)


@dataclasses.dataclass(frozen=True)
class ColorJitter(Op):
    """Changes brightness, contrast, saturation and hue, as torchvision's ColorJitter.

    The order is fixed, where torchvision's is random. Values stay within 0 and 1. Factors are
    uniform in [1 - amount, 1 + amount] and not below 0. The hue moves by a uniform share of the
    circle in [-hue, hue].
    """

    signature = "color_jitter(brightness=0, contrast=0, saturation=0, hue=0)"
    random = True
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self):
        amounts = (self.brightness, self.contrast, self.saturation, self.hue)
        require(finite(*amounts) and min(amounts) >= 0, "amounts must be numbers of 0 or more")
        require(self.hue <= 0.5, f"hue must be 0.5 at most, half the circle, not {self.hue}")

    def __call__(self, images, keys):
        channels = images.shape[-1]
        require(
            channels == 3 or (self.saturation == 0 and self.hue == 0),
            f"saturation and hue are of colours, and the images have {channels} channel: leave "
            "both 0",
        )

        def draw(key):
            return jax.random.uniform(key, (4,), minval=-1.0)

        draws = jax.vmap(draw)(keys)

        def factors(amount: float, column: int):
            return jnp.maximum(1 + amount * draws[:, column], 0)[:, None, None, None]

        if self.brightness:
            images = jnp.clip(images * factors(self.brightness, 0), 0, 1)
        if self.contrast:
            factor = factors(self.contrast, 1)
            mean = to_gray(images).mean((1, 2, 3), keepdims=True)
            images = jnp.clip(blend(images, mean, factor), 0, 1)
        if self.saturation:
            factor = factors(self.saturation, 2)
            images = jnp.clip(blend(images, to_gray(images), factor), 0, 1)
        if self.hue:
            images = turn_hue(images, self.hue * draws[:, 3])
        return images


def blend(images, others, factor):
    """Returns a weighted mean, beyond the images where the factor is above 1."""
    return factor * images + (1 - factor) * others


def to_gray(images):
    """Converts float [B, H, W, C] to [B, H, W, 1]; images of one channel stay as they are."""
    if images.shape[-1] == 3:
        return images @ jnp.array(LUMA)[:, None]
    return images


def turn_hue(images, turns):
    """Moves the hue of RGB images [B, H, W, 3] by `turns` [B] of the circle.

    Value and saturation, as defined by HSV, stay.
    """
    value = images.max(-1)
    chroma = value - images.min(-1)
    red, green, blue = jnp.moveaxis(images, -1, 0)
    divisor = jnp.where(chroma > 0, chroma, 1)
    by_red = (green - blue) / divisor
    by_green = 2 + (blue - red) / divisor
    by_blue = 4 + (red - green) / divisor
    # Channels are compared with each other, not with `value`: XLA may compute it again, rounded
    # differently.
    red_is_largest = (red >= green) & (red >= blue)
    by_green_or_blue = jnp.where(green >= blue, by_green, by_blue)
    sector = jnp.where(red_is_largest, by_red, by_green_or_blue)
    sector = sector + 6 * turns[:, None, None]
    offsets = jnp.array([5.0, 3.0, 1.0])  # of red, green and blue on the circle of six sectors
    distance = (offsets + sector[..., None]) % 6
    return value[..., None] - chroma[..., None] * jnp.clip(
        jnp.minimum(distance, 4 - distance), 0, 1
    )
