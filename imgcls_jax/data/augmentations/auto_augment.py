"""Random choices among common operations: RandAugment, TrivialAugment and AugMix.

Each image of a batch has an operation of its own. All operations are one program over the whole
batch, in which those that an image has not drawn leave it as it is: a branch for each image would
cost more on every device.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from imgcls_jax.data.augmentations.color import blend, to_gray
from imgcls_jax.data.image_ops import Op, finite, require

GEOMETRIC = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
BLENDS = ("brightness", "color", "contrast", "sharpness")
OPERATIONS = (
    "identity",
    *GEOMETRIC,
    *BLENDS,
    "posterize",
    "solarize",
    "autocontrast",
    "equalize",
)
LEVELS = 256  # of a pixel
MAX_LEVEL = 30  # of RandAugment's and TrivialAugment's magnitudes, which begin at 0
MAX_SEVERITY = 10  # of AugMix
MAX_REPEATS = 10  # of operations on an image, and of chains


@dataclasses.dataclass(frozen=True)
class Space:
    """The operations to choose from, and what they do at magnitude 1.

    shear: pixels along one axis for each pixel along the other. translate: a share of the side
    (below 1) or a number of pixels. degrees: of the rotation. enhance: how far a factor of
    brightness, color, contrast and sharpness is from 1; 0 where they are left out. bits: of a
    pixel that posterize keeps at magnitudes 0 and 1. Solarize inverts the levels from
    256 * (1 - magnitude).
    """

    shear: float
    translate: float
    degrees: float
    enhance: float
    bits: tuple[int, int]
    operations: tuple[str, ...] = OPERATIONS


RAND_AUGMENT = Space(
    shear=0.3, translate=150 / 331, degrees=30.0, enhance=0.9, bits=(8, 4)
)  # as in torchvision
WIDE = Space(shear=0.99, translate=32, degrees=135.0, enhance=0.99, bits=(8, 2))
AUGMIX = Space(
    shear=0.3,
    translate=1 / 3,
    degrees=30.0,
    enhance=0.0,
    bits=(4, 0),
    # Without those that are like the corruptions of robustness tests, and without identity.
    operations=(*GEOMETRIC, "posterize", "solarize", "autocontrast", "equalize"),
)


@dataclasses.dataclass(frozen=True)
class RandAugment(Op):
    """Applies `num_ops` random operations with one magnitude (Cubuk et al., 2019).

    Source: arXiv:1909.13719, with the ranges of torchvision's RandAugment. magnitude: from 0 to 30.
    """

    signature = "rand_augment(num_ops=2, magnitude=9)"
    random = True
    num_ops: int = 2
    magnitude: float = 9

    def __post_init__(self):
        _require_count("num_ops", self.num_ops)
        require(
            finite(self.magnitude) and 0 <= self.magnitude <= MAX_LEVEL,
            f"magnitude must be a number from 0 to {MAX_LEVEL}, not {self.magnitude!r}",
        )

    def __call__(self, images, keys):
        magnitudes = jnp.full(len(images), self.magnitude / MAX_LEVEL)

        def layer(number, images):
            layer_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
            operations, signs = _draw_operations(layer_keys, RAND_AUGMENT)
            return apply(images, operations, signs * magnitudes, space=RAND_AUGMENT)

        return jax.lax.fori_loop(0, self.num_ops, layer, images)


@dataclasses.dataclass(frozen=True)
class TrivialAugment(Op):
    """Applies one random operation with a random magnitude (Müller & Hutter, 2021).

    Source: arXiv:2103.10158, its wide space of operations, which has nothing to tune.
    """

    signature: ClassVar[str] = "trivial_augment"
    random = True

    def __call__(self, images, keys):
        operation_keys, magnitude_keys = _split(keys)

        def draw_magnitude(key):
            return jax.random.randint(key, (), 0, MAX_LEVEL + 1) / MAX_LEVEL

        operations, signs = _draw_operations(operation_keys, WIDE)
        magnitudes = signs * jax.vmap(draw_magnitude)(magnitude_keys)
        return apply(images, operations, magnitudes, space=WIDE)


@dataclasses.dataclass(frozen=True)
class AugMix(Op):
    """Averages an image with `width` chains of random operations (Hendrycks et al., 2019).

    Source: arXiv:1912.02781, with Dirichlet(1) and Beta(1, 1) weights, without the paper's
    consistency loss. A chain has from 1 to `depth` operations. severity: the largest magnitude, of
    10.
    """

    signature = "augmix(severity=3, width=3, depth=3)"
    random = True
    severity: float = 3
    width: int = 3
    depth: int = 3

    def __post_init__(self):
        require(
            finite(self.severity) and 0.1 <= self.severity <= MAX_SEVERITY,
            f"severity must be a number from 0.1 to {MAX_SEVERITY}, not {self.severity!r}",
        )
        _require_count("width", self.width)
        _require_count("depth", self.depth)

    def __call__(self, images, keys):
        mix_keys, chain_keys = _split(keys)
        weights, share = jax.vmap(self._draw_weights)(mix_keys)

        def add_chain(number, total):
            keys_of_chain = jax.vmap(jax.random.fold_in, (0, None))(chain_keys, number)
            weight = weights[:, number][:, None, None, None]
            return total + weight * self._chain(images, keys_of_chain)

        mixture = jax.lax.fori_loop(0, self.width, add_chain, jnp.zeros_like(images))
        return blend(mixture, images, share[:, None, None, None])

    def _draw_weights(self, key):
        """Returns the chains' weights [width], and the share of their mixture in the result."""
        weights_key, share_key = jax.random.split(key)
        # Exponentials divided by their sum are Dirichlet(1), and Beta(1, 1) is uniform.
        weights = jax.random.exponential(weights_key, (self.width,))
        return weights / weights.sum(), jax.random.uniform(share_key)

    def _chain(self, images, keys):
        """Applies a random number of random operations to each image."""
        depth_keys, operation_keys = _split(keys)

        def draw_depth(key):
            return jax.random.randint(key, (), 1, self.depth + 1)

        def draw_magnitude(key):
            return jax.random.uniform(key, minval=0.1, maxval=self.severity) / MAX_SEVERITY

        depths = jax.vmap(draw_depth)(depth_keys)

        def layer(number, images):
            layer_keys = jax.vmap(jax.random.fold_in, (0, None))(operation_keys, number)
            choice_keys, magnitude_keys = _split(layer_keys)
            operations, signs = _draw_operations(choice_keys, AUGMIX)
            operations = jnp.where(number < depths, operations, OPERATIONS.index("identity"))
            magnitudes = signs * jax.vmap(draw_magnitude)(magnitude_keys)
            return apply(images, operations, magnitudes, space=AUGMIX)

        return jax.lax.fori_loop(0, self.depth, layer, images)


def _require_count(name: str, value) -> None:
    require(
        isinstance(value, int) and 1 <= value <= MAX_REPEATS,
        f"{name} must be a whole number from 1 to {MAX_REPEATS}, not {value!r:.50}",
    )


def _split(keys):
    """Splits each of the keys [B] in two; returns both halves [B]."""
    pairs = jax.vmap(jax.random.split)(keys)
    return pairs[:, 0], pairs[:, 1]


def _draw_operations(keys, space: Space):
    """Returns an operation of OPERATIONS, int32 [B], and a sign, -1 or 1 [B], for each key."""

    def draw(key):
        operation_key, sign_key = jax.random.split(key)
        index = jax.random.randint(operation_key, (), 0, len(space.operations))
        return index, jax.random.rademacher(sign_key, (), jnp.float32)

    indices, signs = jax.vmap(draw)(keys)
    positions = [OPERATIONS.index(operation) for operation in space.operations]
    return jnp.array(positions)[indices], signs


def apply(images, operations, magnitudes, *, space: Space):
    """Applies to each image the operation that it has drawn.

    images: float32 [B, H, W, C], 0 to 1. operations: int32 [B], positions in OPERATIONS.
    magnitudes: float32 [B], from -1 to 1; posterize and solarize take their absolute value,
    autocontrast and equalize have none.
    """
    drawn = _Drawn(operations, magnitudes)
    # Each begins with the same images, so that XLA does not compute one within another.
    changed = images
    if space.enhance:
        changed = _enhance(images, drawn, space)
    changed = jnp.where(drawn.is_chosen("posterize"), _posterize(images, drawn, space), changed)
    changed = jnp.where(drawn.is_chosen("solarize"), _solarize(images, drawn), changed)
    changed = jnp.where(drawn.is_chosen("autocontrast"), _autocontrast(images), changed)
    changed = jnp.where(drawn.is_chosen("equalize"), _equalize(images), changed)
    return _move(changed, drawn, space)


@dataclasses.dataclass(frozen=True)
class _Drawn:
    """What each image of a batch has drawn, in shapes that broadcast with images."""

    operations: jax.Array
    magnitudes: jax.Array

    def is_chosen(self, operation: str) -> jax.Array:
        """bool [B, 1, 1, 1]."""
        is_chosen = self.operations == OPERATIONS.index(operation)
        return is_chosen[:, None, None, None]

    def amount(self, operation: str, most: float = 1.0) -> jax.Array:
        """`most` times the magnitude where the operation is chosen, else 0: float32 [B, 1, 1, 1]."""
        amounts = most * self.magnitudes[:, None, None, None]
        return jnp.where(self.is_chosen(operation), amounts, 0.0)


def _move(images, drawn: _Drawn, space: Space):
    """Shears from the upper left corner, shifts, and rotates about the centre, as Pillow does.

    Takes the nearest pixel; what comes in from outside is black.
    """
    batch, height, width, channels = images.shape
    rows = jnp.arange(height)[:, None, None] + 0.5  # of the pixels' centres
    columns = jnp.arange(width)[:, None] + 0.5
    angle = jnp.deg2rad(drawn.amount("rotate", space.degrees))
    down = rows - height / 2
    right = columns - width / 2
    row = jnp.cos(angle) * down - jnp.sin(angle) * right + height / 2
    column = jnp.cos(angle) * right + jnp.sin(angle) * down + width / 2
    row += drawn.amount("shear_y", space.shear) * columns
    column += drawn.amount("shear_x", space.shear) * rows
    row -= jnp.round(drawn.amount("translate_y", _pixels(space.translate, height)))
    column -= jnp.round(drawn.amount("translate_x", _pixels(space.translate, width)))
    is_inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    index = jnp.floor(row) * width + jnp.floor(column)
    index = jnp.where(is_inside, index, 0).astype(jnp.int32)
    flat = images.reshape(batch, height * width, channels)
    moved = jax.vmap(lambda pixels, index: pixels[index])(flat, index[..., 0])
    return jnp.where(is_inside, moved, 0)


def _pixels(size: float, side: int) -> float:
    """Returns the pixels of a share of a side (below 1), or of a number of pixels."""
    return size * side if size < 1 else size


def _enhance(images, drawn: _Drawn, space: Space):
    """Changes brightness, colour, contrast or sharpness, as Pillow's ImageEnhance."""
    gray = to_gray(images)
    # Brightness is a blend with black.
    others = jnp.where(drawn.is_chosen("color"), gray, 0.0)
    mean = gray.mean((1, 2, 3), keepdims=True)
    others = jnp.where(drawn.is_chosen("contrast"), mean, others)
    others = jnp.where(drawn.is_chosen("sharpness"), _smooth(images), others)
    factor = 1.0
    for operation in BLENDS:
        factor += drawn.amount(operation, space.enhance)
    return jnp.clip(blend(images, others, factor), 0, 1)


def _smooth(images):
    """Averages the pixels around each one, with weight 5 of 13 on itself; the border stays."""
    height, width = images.shape[1:3]
    total = 4 * images[:, 1:-1, 1:-1]
    for down in range(3):
        for right in range(3):
            total += images[:, down : down + height - 2, right : right + width - 2]
    return images.at[:, 1:-1, 1:-1].set(total / 13)


def to_levels(images):
    """Returns the levels of pixels from 0 to 1: whole numbers from 0 to 255, as float32."""
    return jnp.round(images * (LEVELS - 1))


def _posterize(images, drawn: _Drawn, space: Space):
    """Sets the lower bits of each pixel to 0."""
    most, least = space.bits
    magnitude = jnp.abs(drawn.amount("posterize"))
    bits = most - jnp.round((most - least) * magnitude)
    removed = (8 - bits).astype(jnp.int32)
    levels = to_levels(images).astype(jnp.int32)
    return ((levels >> removed) << removed) / (LEVELS - 1)


def _solarize(images, drawn: _Drawn):
    """Inverts what is bright."""
    threshold = LEVELS * (1 - jnp.abs(drawn.amount("solarize")))
    return jnp.where(to_levels(images) >= threshold, 1 - images, images)


def _autocontrast(images):
    """Stretches each channel to the whole range; a channel of one value stays."""
    low = images.min((1, 2), keepdims=True)
    high = images.max((1, 2), keepdims=True)
    span = high - low
    stretched = (images - low) / jnp.where(span > 0, span, 1)
    return jnp.where(span > 0, stretched, images)


def _equalize(images):
    """Makes the levels of each channel about equally frequent, as Pillow's ImageOps.equalize."""
    batch, height, width, channels = images.shape
    levels = to_levels(images).astype(jnp.int32).reshape(batch, height * width, channels)
    counts = _histogram(levels)
    below = jnp.cumsum(counts, -1) - counts  # pixels of a lower level
    last = jnp.take_along_axis(counts, levels.max(1)[..., None], -1)
    step = jnp.floor((height * width - last) / (LEVELS - 1))
    table = jnp.floor((jnp.floor(step / 2) + below) / jnp.maximum(step, 1))
    table = jnp.where(step > 0, jnp.clip(table, 0, LEVELS - 1), jnp.arange(LEVELS))
    equalized = jnp.take_along_axis(table.swapaxes(1, 2), levels, 1) / (LEVELS - 1)
    return equalized.reshape(images.shape)


def _histogram(levels):
    """Counts the pixels of each level: int32 [B, N, C] -> float32 [B, C, 256]."""

    def count(levels):
        return jnp.zeros(LEVELS).at[levels].add(1)

    return jax.vmap(jax.vmap(count, in_axes=1))(levels)
