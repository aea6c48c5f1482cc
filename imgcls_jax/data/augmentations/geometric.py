"""Random crops, mirror images and affine maps."""

import dataclasses

import jax
import jax.numpy as jnp

from imgcls_jax.data.image_ops import Op, finite, require, require_positive
from imgcls_jax.errors import choose

PADDINGS = {"zero": "constant", "reflect": "reflect"}  # their names in jnp.pad
INTERPOLATIONS = ("bilinear", "nearest")
FILLS = ("zero", "nearest", "reflect")


@dataclasses.dataclass(frozen=True)
class RandomCrop(Op):
    """Pads each side by `padding` pixels and crops the old size at a random, uniform position."""

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
            f"random_crop({self.padding}, reflect) needs images larger than the padding; they are "
            f"{height}x{width}",
        )
        sides = (self.padding, self.padding)
        padded = jnp.pad(images, ((0, 0), sides, sides, (0, 0)), mode=PADDINGS[self.mode])

        def crop(image, key):
            top, left = jax.random.randint(key, (2,), 0, 2 * self.padding + 1)
            return jax.lax.dynamic_slice(image, (top, left, 0), (height, width, channels))

        return jax.vmap(crop)(padded, keys)


@dataclasses.dataclass(frozen=True)
class RandomResizedCrop(Op):
    """Crops a random box of the image and resizes it bilinearly to the image's size.

    The box' area is a share of the image's, uniform between `low` and `high`. The logarithm of its
    aspect ratio is uniform between those of 3/4 and 4/3. This is torchvision's RandomResizedCrop,
    except that a box that is too long is cut off, where torchvision draws another one.
    """

    signature = "random_resized_crop(low, high=1)"
    random = True
    low: float
    high: float = 1.0

    def __post_init__(self):
        require(
            finite(self.low, self.high) and 0 < self.low <= self.high <= 1,
            "give shares of the area above 0 and up to 1, the low one first, not "
            f"{self.low!r} and {self.high!r}",
        )

    def __call__(self, images, keys):
        height, width = images.shape[1:3]
        sizes, corners = jax.vmap(self._draw_box)(keys)
        rows = interpolation_weights(height, sizes[:, 0], corners[:, 0])
        columns = interpolation_weights(width, sizes[:, 1], corners[:, 1])
        return jnp.einsum("bik,bklc,bjl->bijc", rows, images, columns)

    def _draw_box(self, key):
        """Returns height and width, and top and left, as shares of the image's sides."""
        area, ratio, down, right = jax.random.uniform(key, (4,))
        side = jnp.sqrt(self.low + (self.high - self.low) * area)
        stretch = jnp.exp((ratio - 0.5) * jnp.log(4 / 3))  # the root of the aspect ratio
        size = jnp.minimum(jnp.stack([side / stretch, side * stretch]), 1)
        return size, (1 - size) * jnp.stack([down, right])


def interpolation_weights(length: int, size, start):
    """Returns the weights [B, length, length] that resize a part of a line to the whole line.

    Row i has the weight of each old pixel in the new pixel i. size and start [B]: of the part, as
    shares of the line.
    """
    pixels = jnp.arange(length)
    positions = length * start[:, None] + (pixels + 0.5) * size[:, None] - 0.5
    positions = jnp.clip(positions, 0, length - 1)
    return jnp.maximum(1 - jnp.abs(positions[..., None] - pixels), 0)


@dataclasses.dataclass(frozen=True)
class Flip(Op):
    """Mirrors left and right with probability one half."""

    signature = "flip"
    random = True

    def __call__(self, images, keys):
        mirrored = jax.vmap(jax.random.bernoulli)(keys)
        return _mirror_where(mirrored, images)


@dataclasses.dataclass(frozen=True)
class AlternatingFlip(Op):
    """Mirrors an example left and right in every second epoch (Jordan, 2024, arXiv:2404.00498).

    Whether in the even or the odd ones is random. In two successive epochs an example is seen both
    ways, where `flip` shows it the same way half of the time.
    """

    signature = "alternating_flip"
    random = True
    by_epoch = True

    def __call__(self, images, keys, epoch):
        mirrored = jax.vmap(jax.random.bernoulli)(keys) ^ (epoch % 2 == 1)
        return _mirror_where(mirrored, images)


def _mirror_where(mirrored, images):
    """Mirrors those of the images [B, H, W, C] where `mirrored` [B] is True."""
    return jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


@dataclasses.dataclass(frozen=True)
class Affine(Op):
    """Rotates, scales and shears about the centre, then shifts, as torchvision's RandomAffine.

    All are uniform: the angle within +-degrees, the shear along rows within +-shear degrees, the
    scale between the two given, and the shift within +-translate of the side, in whole pixels. What
    comes in from outside is zero, the nearest pixel as in Keras' ImageDataGenerator, or the image
    reflected at its edges.
    """

    signature = (
        "affine(degrees, translate=0, scale_low=1, scale_high=1, shear=0, "
        "interpolation=bilinear|nearest, fill=zero|nearest|reflect)"
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
        choose("interpolation", self.interpolation, dict.fromkeys(INTERPOLATIONS))
        choose("fill", self.fill, dict.fromkeys(FILLS))
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
            "scales must be above 0, the low one first, not "
            f"{self.scale_low} and {self.scale_high}",
        )

    def __call__(self, images, keys):
        height, width = images.shape[1:3]

        def draw(key):
            angle, shear, scale, down, right = jax.random.uniform(key, (5,), minval=-1.0)
            scale = self.scale_low + (scale + 1) / 2 * (self.scale_high - self.scale_low)
            shift = jnp.round(self.translate * jnp.stack([down * height, right * width]))
            return jnp.deg2rad(self.degrees) * angle, jnp.deg2rad(self.shear) * shear, scale, shift

        angles, shears, scales, shifts = jax.vmap(draw)(keys)
        return warp(
            images,
            angles,
            shears,
            scales,
            shifts,
            smooth=self.interpolation == "bilinear",
            fill=self.fill,
        )


@dataclasses.dataclass(frozen=True)
class Rotation(Op):
    """Rotates about the centre by a uniform angle within +-degrees.

    fill: what comes into the corners from outside, as of `Affine`. Zero is right for strokes on
    black; photos and scans look as they should with reflect or nearest.
    """

    signature = "rotation(degrees, interpolation=bilinear|nearest, fill=zero|nearest|reflect)"
    random = True
    degrees: float
    interpolation: str = "bilinear"
    fill: str = "zero"

    def __post_init__(self):
        self._affine()  # checks the arguments

    def __call__(self, images, keys):
        return self._affine()(images, keys)

    def _affine(self) -> Affine:
        return Affine(self.degrees, interpolation=self.interpolation, fill=self.fill)


def warp(images, angles, shears, scales, shifts, *, smooth: bool, fill: str = "zero"):
    """Rotates each image clockwise, shears and scales it about its centre, then shifts it.

    images: float32 [B, H, W, C]; angles and shears in radians [B]; scales [B]; shifts [B, 2] in
    pixels down and right. smooth: interpolates bilinearly, else takes the nearest pixel. fill: one
    of FILLS, what comes in from outside.
    """
    height, width, channels = images.shape[1:]
    row_indices, column_indices = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    centre = jnp.array([(height - 1) / 2, (width - 1) / 2])

    def warp_image(image, angle, shear, scale, shift):
        down = row_indices - centre[0] - shift[0]
        right = column_indices - centre[1] - shift[1]
        # The inverse of rotation @ shear: first the rotation is undone, then shear and scale.
        right, down = (
            jnp.cos(angle) * right + jnp.sin(angle) * down,
            jnp.cos(angle) * down - jnp.sin(angle) * right,
        )
        right = right + jnp.tan(shear) * down
        row = down / scale + centre[0]
        column = right / scale + centre[1]
        flat = image.reshape(height * width, channels)

        def pixels_at(row, column):
            if fill == "reflect":
                row = _reflected(row, height)
                column = _reflected(column, width)
            if fill == "nearest":
                row = jnp.clip(row, 0, height - 1)
                column = jnp.clip(column, 0, width - 1)
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            index = jnp.where(inside, row * width + column, 0).astype(jnp.int32)
            return jnp.where(inside[..., None], flat[index], 0)

        if smooth:
            return _bilinear(pixels_at, row, column)
        return pixels_at(jnp.round(row), jnp.round(column))

    return jax.vmap(warp_image)(images, angles, shears, scales, shifts)


def _reflected(index, length: int):
    """Returns where indices beyond the ends of a line are on it, reflected at the end pixels."""
    if length == 1:
        return jnp.zeros_like(index)
    period = 2 * (length - 1)
    index = jnp.abs(index) % period
    return jnp.minimum(index, period - index)


def _bilinear(pixels_at, row, column):
    """Interpolates at rows and columns [H, W]; pixels_at: the pixels [H, W, C] at whole ones."""
    top = jnp.floor(row)
    left = jnp.floor(column)
    down = (row - top)[..., None]
    right = (column - left)[..., None]
    above = (1 - right) * pixels_at(top, left) + right * pixels_at(top, left + 1)
    below = (1 - right) * pixels_at(top + 1, left) + right * pixels_at(top + 1, left + 1)
    return (1 - down) * above + down * below
