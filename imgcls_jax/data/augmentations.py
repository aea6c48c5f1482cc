"""Random image operations: drawn for each example from its own key, in training alone."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from imgcls_jax.data.image_ops import Op, finite, require, require_positive
from imgcls_jax.errors import choose

PADDINGS = {"zero": "constant", "reflect": "reflect"}  # their names in jnp.pad
INTERPOLATIONS = {"bilinear": True, "nearest": False}
FILLS = {"zero": False, "nearest": True}  # whether what lies outside an image is its nearest pixel
LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue in gray


@dataclasses.dataclass(frozen=True)
class RandomCrop(Op):
    """Pads each side by `padding` pixels, and crops the old size at a random place, each place equally likely."""

    signature = "random_crop(padding, mode=zero|reflect)"
    random = True
    padding: int
    mode: str = "zero"

    def __post_init__(self):
        require_positive("padding", self.padding)
        choose("padding mode", self.mode, PADDINGS)

    def __call__(self, images, keys):
        height, width, channels = images.shape[1:]
        require(
            self.mode != "reflect" or self.padding < min(height, width),
            f"random_crop({self.padding}, reflect) needs images larger than the padding; they are {height}x{width}",
        )
        sides = (self.padding, self.padding)
        padded = jnp.pad(images, ((0, 0), sides, sides, (0, 0)), mode=PADDINGS[self.mode])

        def crop(image, key):
            top, left = jax.random.randint(key, (2,), 0, 2 * self.padding + 1)
            return jax.lax.dynamic_slice(image, (top, left, 0), (height, width, channels))

        return jax.vmap(crop)(padded, keys)


@dataclasses.dataclass(frozen=True)
class RandomResizedCrop(Op):
    """A random box of the image, resized bilinearly to the image's size.

    Its area is a share of the image's drawn uniformly between the two given, the ratio of its sides by its logarithm
    from 3/4 to 4/3. As torchvision's RandomResizedCrop, but for a box that is too long for the image: it is cut off
    there, instead of being drawn again.
    """

    signature = "random_resized_crop(low, high=1)"
    random = True
    low: float
    high: float = 1.0

    def __post_init__(self):
        require(
            finite(self.low, self.high) and 0 < self.low <= self.high <= 1,
            f"give shares of the area above 0 and up to 1, the low one first, not {self.low!r} and {self.high!r}",
        )

    def __call__(self, images, keys):
        height, width = images.shape[1:3]

        def draw(key):
            area, ratio, down, right = jax.random.uniform(key, (4,))
            side = jnp.sqrt(self.low + (self.high - self.low) * area)
            stretch = jnp.exp(
                (ratio - 0.5) * jnp.log(4 / 3)
            )  # of the width: the root of the sides' ratio
            shares = jnp.minimum(jnp.stack([side / stretch, side * stretch]), 1)
            return shares, (1 - shares) * jnp.stack([down, right])

        shares, corners = jax.vmap(draw)(keys)
        rows, columns = (
            _sampled(length, shares[:, axis], corners[:, axis])
            for axis, length in enumerate((height, width))
        )
        return jnp.einsum("bik,bklc,bjl->bijc", rows, images, columns)


def _sampled(length: int, share, corner):
    """[B, length, length]: how much of each pixel of a line the new ones take, linearly, from a part of it.

    share and corner: of the part [B], its length and where it begins, as shares of the line.
    """
    pixels = jnp.arange(length)
    places = length * corner[:, None] + (pixels + 0.5) * share[:, None] - 0.5
    places = jnp.clip(places, 0, length - 1)
    return jnp.maximum(1 - jnp.abs(places[..., None] - pixels), 0)


@dataclasses.dataclass(frozen=True)
class RandomGray(Op):
    """Takes an image's colour, its channels kept, with a probability."""

    signature = "random_gray(probability)"
    random = True
    probability: float

    def __post_init__(self):
        require(
            finite(self.probability) and 0 <= self.probability <= 1,
            f"give a probability from 0 to 1, not {self.probability!r}",
        )

    def __call__(self, images, keys):
        drawn = jax.vmap(lambda key: jax.random.bernoulli(key, self.probability))(keys)
        return jnp.where(drawn[:, None, None, None], gray(images), images)


@dataclasses.dataclass(frozen=True)
class Flip(Op):
    """Mirrors left and right with probability one half."""

    signature = "flip"
    random = True

    def __call__(self, images, keys):
        mirrored = jax.vmap(jax.random.bernoulli)(keys)
        return jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


@dataclasses.dataclass(frozen=True)
class AlternatingFlip(Op):
    """Mirrors an example left and right in every second epoch; which half begins is random (Jordan, 2024).

    Of any two epochs in turn an example is seen both ways, where `flip` shows it the same way in half the cases.
    """

    signature = "alternating_flip"
    random = True
    by_epoch = True

    def __call__(self, images, keys, epoch):
        mirrored = jax.vmap(jax.random.bernoulli)(keys) ^ (epoch % 2 == 1)
        return jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


@dataclasses.dataclass(frozen=True)
class Affine(Op):
    """Rotates, scales and shears about the centre, then shifts: each drawn uniformly.

    The angle is within +-degrees, the shear along rows within +-shear degrees, the scale between the two given, and the
    shift within +-translate of the side, in whole pixels. As torchvision's RandomAffine. What comes in from outside is
    zero, or the nearest pixel of the image, as in Keras' ImageDataGenerator.
    """

    signature = (
        "affine(degrees, translate=0, scale_low=1, scale_high=1, shear=0, interpolation=bilinear|nearest, "
        "fill=zero|nearest)"
    )
    random = True
    degrees: float
    translate: float = 0.0
    scale_low: float = 1.0
    scale_high: float = 1.0
    shear: float = 0.0
    interpolation: str = "bilinear"
    fill: str = "zero"

    def __post_init__(self):
        choose("interpolation", self.interpolation, INTERPOLATIONS)
        choose("fill", self.fill, FILLS)
        require(
            finite(self.degrees, self.translate, self.scale_low, self.scale_high, self.shear),
            "give numbers",
        )
        require(0 <= self.degrees <= 180, f"degrees must be from 0 to 180, not {self.degrees}")
        require(
            0 <= self.translate <= 1,
            f"translate is a share of the side: 0 to 1, not {self.translate}",
        )
        require(0 <= self.shear < 90, f"shear must be at least 0 and below 90, not {self.shear}")
        require(
            0 < self.scale_low <= self.scale_high,
            f"scales must be above 0, the low one first, not {self.scale_low} and {self.scale_high}",
        )

    def __call__(self, images, keys):
        height, width = images.shape[1:3]

        def draw(key):
            angle, shear, scale, down, right = jax.random.uniform(key, (5,), minval=-1.0)
            scale = self.scale_low + (scale + 1) / 2 * (self.scale_high - self.scale_low)
            shift = jnp.round(self.translate * jnp.stack([down * height, right * width]))
            return jnp.deg2rad(self.degrees) * angle, jnp.deg2rad(self.shear) * shear, scale, shift

        smooth, extend = INTERPOLATIONS[self.interpolation], FILLS[self.fill]
        return warp(images, *jax.vmap(draw)(keys), smooth=smooth, extend=extend)


@dataclasses.dataclass(frozen=True)
class Rotation(Op):
    """Rotates about the centre by an angle drawn uniformly within +-degrees; zeros come in from outside."""

    signature = "rotation(degrees, interpolation=bilinear|nearest)"
    random = True
    degrees: float
    interpolation: str = "bilinear"

    def __post_init__(self):
        Affine(self.degrees, interpolation=self.interpolation)  # for its checks

    def __call__(self, images, keys):
        return Affine(self.degrees, interpolation=self.interpolation)(images, keys)


def warp(images, angles, shears, scales, shifts, *, smooth: bool, extend: bool = False):
    """Each image rotated clockwise, sheared and scaled about its centre, then shifted.

    Outside are zeros, with `extend` the nearest pixels. images float32 [B, H, W, C]; angles and shears in radians [B],
    scales [B], shifts [B, 2] in pixels down and right.
    """
    height, width, channels = images.shape[1:]
    rows, columns = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    centre = jnp.array([(height - 1) / 2, (width - 1) / 2])

    def one(image, angle, shear, scale, shift):
        down, right = rows - centre[0] - shift[0], columns - centre[1] - shift[1]
        # The inverse of rotation @ shear: first the rotation is undone, then the shear, then the scale.
        right, down = (
            jnp.cos(angle) * right + jnp.sin(angle) * down,
            jnp.cos(angle) * down - jnp.sin(angle) * right,
        )
        right = right + jnp.tan(shear) * down
        y, x = down / scale + centre[0], right / scale + centre[1]
        flat = image.reshape(height * width, channels)

        def at(row, column):
            if extend:
                row, column = jnp.clip(row, 0, height - 1), jnp.clip(column, 0, width - 1)
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            place = jnp.where(inside, row * width + column, 0).astype(jnp.int32)
            return jnp.where(inside[..., None], flat[place], 0)

        if not smooth:
            return at(jnp.round(y), jnp.round(x))
        top, left = jnp.floor(y), jnp.floor(x)
        v, h = (y - top)[..., None], (x - left)[..., None]
        above = (1 - h) * at(top, left) + h * at(top, left + 1)
        below = (1 - h) * at(top + 1, left) + h * at(top + 1, left + 1)
        return (1 - v) * above + v * below

    return jax.vmap(one)(images, angles, shears, scales, shifts)


@dataclasses.dataclass(frozen=True)
class ColorJitter(Op):
    """Brightness, contrast, saturation and hue, changed in this order; values stay within 0 and 1.

    Factors are drawn uniformly from [1 - amount, 1 + amount], not below 0, the turn of the hue from [-hue, hue] of the
    circle. As torchvision's ColorJitter, which has a random order.
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
        require(self.hue <= 0.5, f"hue must be .5 at most, half the circle, not {self.hue}")

    def __call__(self, images, keys):
        channels = images.shape[-1]
        require(
            channels == 3 or not (self.saturation or self.hue),
            f"saturation and hue are of colours, and the images have {channels} channel: leave both 0",
        )
        draws = jax.vmap(lambda key: jax.random.uniform(key, (4,), minval=-1.0))(keys)
        steps = (
            (self.brightness, lambda x, factor: x * factor),
            (
                self.contrast,
                lambda x, factor: _blend(x, gray(x).mean((1, 2, 3), keepdims=True), factor),
            ),
            (self.saturation, lambda x, factor: _blend(x, gray(x), factor)),
        )
        for i, (amount, change) in enumerate(steps):
            if amount:
                factor = jnp.maximum(1 + amount * draws[:, i], 0)[:, None, None, None]
                images = jnp.clip(change(images, factor), 0, 1)
        return turn_hue(images, self.hue * draws[:, 3]) if self.hue else images


def gray(images):
    """[B, H, W, C] -> [B, H, W, 1]."""
    return images @ jnp.array(LUMA)[:, None] if images.shape[-1] == 3 else images


def turn_hue(images, turns):
    """RGB images [B, H, W, 3] with their hue moved by `turns` [B] of the circle; value and saturation as in HSV."""
    value, least = images.max(-1), images.min(-1)
    chroma = value - least
    r, g, b = jnp.moveaxis(images, -1, 0)
    safe = jnp.where(chroma > 0, chroma, 1)
    # Which channel is largest is found by comparing channels: XLA may compute `value` anew, rounded otherwise.
    by_red, by_green, by_blue = (g - b) / safe, 2 + (b - r) / safe, 4 + (r - g) / safe
    sector = jnp.where((r >= g) & (r >= b), by_red, jnp.where(g >= b, by_green, by_blue))
    sector = sector + 6 * turns[:, None, None]
    offsets = jnp.array([5.0, 3.0, 1.0])  # of red, green and blue on the circle of six sectors
    k = (offsets + sector[..., None]) % 6
    return value[..., None] - chroma[..., None] * jnp.clip(jnp.minimum(k, 4 - k), 0, 1)


@dataclasses.dataclass(frozen=True)
class Cutout(Op):
    """Sets a square of size x size to 0, its centre anywhere in the image (DeVries & Taylor, 2017, arXiv:1708.04552).

    After normalize 0 is the mean colour, before it black.
    """

    signature = "cutout(size)"
    random = True
    size: int

    def __post_init__(self):
        require_positive("size", self.size)

    def __call__(self, images, keys):
        height, width = images.shape[1:3]

        def keep(key):
            middle = jax.random.randint(key, (2,), 0, jnp.array([height, width]))
            return ~_box(middle - self.size // 2, jnp.array([self.size, self.size]), height, width)

        return jnp.where(jax.vmap(keep)(keys)[..., None], images, 0)


@dataclasses.dataclass(frozen=True)
class Mix(Op):
    """An operation that mixes every example with a partner; it comes last in a transform."""

    random = True
    alpha: float = 1.0

    def __post_init__(self):
        require(
            finite(self.alpha) and self.alpha > 0,
            f"alpha must be a number above 0, not {self.alpha!r}",
        )

    def __call__(self, images, partners, keys):
        """images and partners float32 [B, H, W, C] -> the mixed images, and each image's own share in its label [B]."""
        raise NotImplementedError

    def _own_share(self, key):
        return jax.random.beta(key, self.alpha, self.alpha)


@dataclasses.dataclass(frozen=True)
class Mixup(Mix):
    """A weighted mean of the two images, the weight drawn from Beta(alpha, alpha) (Zhang et al., arXiv:1710.09412)."""

    signature: ClassVar[str] = "mixup(alpha=1)"

    def __call__(self, images, partners, keys):
        share = jax.vmap(self._own_share)(keys)
        weight = share[:, None, None, None]
        return weight * images + (1 - weight) * partners, share


@dataclasses.dataclass(frozen=True)
class Cutmix(Mix):
    """A box of the partner's pixels in the image (Yun et al., 2019, arXiv:1905.04899).

    The box has the image's proportions and a share of its area drawn from Beta(alpha, alpha); what sticks out is cut
    off. The label's share is the area that is left.
    """

    signature: ClassVar[str] = "cutmix(alpha=1)"

    def __call__(self, images, partners, keys):
        height, width = images.shape[1:3]

        def box(key):
            area, place = jax.random.split(key)
            side = jnp.sqrt(1 - self._own_share(area))
            size = jnp.floor(side * jnp.array([height, width])).astype(jnp.int32)
            middle = jax.random.randint(place, (2,), 0, jnp.array([height, width]))
            return _box(middle - size // 2, size, height, width)

        boxes = jax.vmap(box)(keys)
        return jnp.where(boxes[..., None], partners, images), 1 - boxes.mean((1, 2))


def _box(corner, size, height: int, width: int):
    """bool [H, W]: the box with that upper left corner, as far as it lies in the image."""
    rows, columns = jnp.arange(height)[:, None], jnp.arange(width)[None]
    end = corner + size
    return (rows >= corner[0]) & (rows < end[0]) & (columns >= corner[1]) & (columns < end[1])


def _blend(image, other, factor):
    return factor * image + (1 - factor) * other
