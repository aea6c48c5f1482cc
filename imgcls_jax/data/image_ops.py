"""Image operations without randomness, which training and evaluation share, and their base class.

Also the checks of arguments that all operations use.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from imgcls_jax.errors import ConfigError, choose

# Mean and standard deviation of each channel, for images scaled to [0, 1].
STATISTICS = {
    "mnist": ((0.1307,), (0.3081,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    # BGR from 0 to 255, with the mean subtracted.
    "caffe": ((103.939 / 255, 116.779 / 255, 123.68 / 255), (1 / 255, 1 / 255, 1 / 255)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    # EfficientNet-Lite: (x - 127) / 128 for x from 0 to 255.
    "lite": ((127 / 255,), (128 / 255,)),
}
MAX_SIZE = 10_000  # pixels of a side
RESIZE_METHODS = {"bilinear": "linear", "bicubic": "cubic"}  # their names in jax.image.resize


@dataclasses.dataclass(frozen=True)
class Op:
    """An image operation. Its fields are its arguments in the text of a transform.

    `op(images, keys)` turns float32 [B, H, W, C] into float32 [B, H', W', C']. keys: JAX keys [B],
    one for each example, for random operations, which run in training only; None for the others.
    An operation with `by_epoch` is called as `op(images, keys, epoch)`, and its keys are the same
    in every epoch.
    """

    signature: ClassVar[str]
    random: ClassVar[bool] = False
    by_epoch: ClassVar[bool] = False


@dataclasses.dataclass(frozen=True)
class Resize(Op):
    """Resizes to size x size by `jax.image.resize`, which takes pixels as squares.

    Enlarging is plain interpolation (bicubic with a = -0.5). Shrinking widens the kernel by the
    factor (antialiasing), as Pillow and torchvision do.
    """

    signature = "resize(size, method=bilinear|bicubic)"
    size: int
    method: str = "bilinear"

    def __post_init__(self):
        require_positive("size", self.size)
        choose("resizing method", self.method, RESIZE_METHODS)

    def __call__(self, images, keys):
        batch, _, _, channels = images.shape
        shape = (batch, self.size, self.size, channels)
        return jax.image.resize(images, shape, RESIZE_METHODS[self.method])


@dataclasses.dataclass(frozen=True)
class CenterCrop(Op):
    """Crops the middle size x size, rounding as torchvision does."""

    signature = "center_crop(size)"
    size: int

    def __post_init__(self):
        require_positive("size", self.size)

    def __call__(self, images, keys):
        height, width = images.shape[1:3]
        require(
            self.size <= min(height, width),
            f"center_crop({self.size}) needs images at least as large; they are {height}x{width}",
        )
        top = round((height - self.size) / 2)
        left = round((width - self.size) / 2)
        return images[:, top : top + self.size, left : left + self.size]


@dataclasses.dataclass(frozen=True)
class Rgb(Op):
    """Repeats the single channel of grayscale images to three. RGB images stay as they are."""

    signature = "rgb"

    def __call__(self, images, keys):
        return jnp.broadcast_to(images, (*images.shape[:-1], 3))


@dataclasses.dataclass(frozen=True)
class Bgr(Op):
    """Reverses the order of the channels, from RGB to BGR."""

    signature = "bgr"

    def __call__(self, images, keys):
        return images[..., ::-1]


@dataclasses.dataclass(frozen=True)
class Normalize(Op):
    """Computes (image - mean) / std for each channel.

    mean: the name of one of STATISTICS, or 1 or 3 numbers; std: as many numbers. Single numbers
    apply to all channels.
    """

    signature = f"normalize({'|'.join(STATISTICS)}) or normalize((means), (stds))"
    mean: str | float | tuple[float, ...]
    std: float | tuple[float, ...] | None = None

    def __post_init__(self):
        mean = self.mean
        std = self.std
        if isinstance(mean, str):
            require(std is None, "a named normalization takes no further argument")
            mean, std = choose("normalization", mean, STATISTICS)
        mean = _as_tuple(mean)
        std = _as_tuple(std)
        require(
            finite(*mean, *std) and len(mean) == len(std) and len(mean) in (1, 3),
            "give a name, or 1 or 3 means and as many standard deviations, as numbers",
        )
        require(min(std) > 0, "standard deviations must be above 0")
        object.__setattr__(self, "mean", mean)  # the dataclass is frozen
        object.__setattr__(self, "std", std)

    def __call__(self, images, keys):
        channels = images.shape[-1]
        require(
            len(self.mean) in (1, channels),
            f"normalize has {len(self.mean)} means, but the images have {channels} channel: put "
            "rgb before it, or give one mean and one standard deviation",
        )
        mean = jnp.asarray(self.mean, images.dtype)
        std = jnp.asarray(self.std, images.dtype)
        return (images - mean) / std


def _as_tuple(value) -> tuple:
    if isinstance(value, tuple):
        return value
    return (value,)


def require(condition: bool, reason: str) -> None:
    """Raises ConfigError with the reason if the condition does not hold."""
    if not condition:
        raise ConfigError(f"{reason}.")


def require_positive(name: str, value) -> None:
    """Raises ConfigError if the argument is no number of pixels."""
    require(
        isinstance(value, int) and 0 < value <= MAX_SIZE,
        f"{name} must be a whole number above 0 and up to {MAX_SIZE:,}, not {value!r:.50}",
    )


def finite(*values) -> bool:
    """Returns whether all values are numbers that are finite in float32."""
    return all(isinstance(value, int | float) and abs(value) < 3.4e38 for value in values)
