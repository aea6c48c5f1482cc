"""Random boxes that are cut out, and the mixing of two examples."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from imgcls_jax.data.image_ops import Op, finite, require, require_positive


@dataclasses.dataclass(frozen=True)
class Cutout(Op):
    """Sets a square of size x size to 0 (DeVries & Taylor, 2017, arXiv:1708.04552).

    Its centre is anywhere in the image. After normalize 0 is the mean colour, before it black.
    """

    signature = "cutout(size)"
    random = True
    size: int

    def __post_init__(self):
        require_positive("size", self.size)

    def __call__(self, images, keys):
        height, width = images.shape[1:3]

        def visible(key):
            centre = jax.random.randint(key, (2,), 0, jnp.array([height, width]))
            size = jnp.array([self.size, self.size])
            return ~_box(centre - self.size // 2, size, height=height, width=width)

        return jnp.where(jax.vmap(visible)(keys)[..., None], images, 0)


@dataclasses.dataclass(frozen=True)
class Mix(Op):
    """Mixes every example with a partner. It comes last in a transform."""

    random = True
    alpha: float = 1.0

    def __post_init__(self):
        require(
            finite(self.alpha) and self.alpha > 0,
            f"alpha must be a number above 0, not {self.alpha!r}",
        )

    def __call__(self, images, partners, keys):
        """Returns mixed images and the share [B] of each image's own label in its target.

        images and partners: float32 [B, H, W, C].
        """
        raise NotImplementedError

    def _draw_share(self, key):
        return jax.random.beta(key, self.alpha, self.alpha)


@dataclasses.dataclass(frozen=True)
class Mixup(Mix):
    """Averages two images, with a weight from Beta(alpha, alpha) (Zhang et al., 2017).

    Source: arXiv:1710.09412.
    """

    signature: ClassVar[str] = "mixup(alpha=1)"

    def __call__(self, images, partners, keys):
        share = jax.vmap(self._draw_share)(keys)
        weight = share[:, None, None, None]
        return weight * images + (1 - weight) * partners, share


@dataclasses.dataclass(frozen=True)
class Cutmix(Mix):
    """Puts a box of the partner into the image (Yun et al., 2019, arXiv:1905.04899).

    The box has the image's proportions and a share of its area from Beta(alpha, alpha), and is cut
    off at the border. The label's share is the area that is left of the image.
    """

    signature: ClassVar[str] = "cutmix(alpha=1)"

    def __call__(self, images, partners, keys):
        height, width = images.shape[1:3]

        def draw_box(key):
            size_key, position_key = jax.random.split(key)
            side = jnp.sqrt(1 - self._draw_share(size_key))
            size = jnp.floor(side * jnp.array([height, width])).astype(jnp.int32)
            centre = jax.random.randint(position_key, (2,), 0, jnp.array([height, width]))
            return _box(centre - size // 2, size, height=height, width=width)

        boxes = jax.vmap(draw_box)(keys)
        return jnp.where(boxes[..., None], partners, images), 1 - boxes.mean((1, 2))


def _box(corner, size, *, height: int, width: int):
    """Returns a mask, bool [H, W], of the part of the box that is in the image.

    corner: top and left; size: height and width.
    """
    rows = jnp.arange(height)[:, None]
    columns = jnp.arange(width)[None]
    end = corner + size
    return (rows >= corner[0]) & (rows < end[0]) & (columns >= corner[1]) & (columns < end[1])
