"""Image operations without randomness, which training and evaluation share; and what every operation is."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from imgcls_jax.errors import ConfigError, choose

STATISTICS = {  # mean and standard deviation of each channel, images scaled to [0, 1]
    "mnist": ((0.1307,), (0.3081,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "caffe": (
        (103.939 / 255, 116.779 / 255, 123.68 / 255),
        (1 / 255,) * 3,
    ),  # of BGR: 0 to 255 less the mean
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "lite": ((127 / 255,), (128 / 255,)),  # of EfficientNet-Lite: (x - 127) / 128 of 0 to 255
}
LARGEST = 10_000  # pixels of a side
RESIZINGS = {"bilinear": "linear", "bicubic": "cubic"}  # their names in jax.image.resize


@dataclasses.dataclass(frozen=True)
class Op:
    """One operation: its fields are its arguments in the text.

    `op(images, keys)` turns float32 [B, H, W, C] into float32 [B, H', W', C']; keys are per-example JAX keys [B] for
    random operations, which run in training only, and None for the others.
    """

    signature: ClassVar[str]
    random: ClassVar[bool] = False
    by_epoch: ClassVar[bool] = (
        False  # op(images, keys, epoch): keys of the examples themselves, the same in every epoch
    )


@dataclasses.dataclass(frozen=True)
class Resize(Op):
    """Resizes to size x size by `jax.image.resize`, pixels taken as squares with their values at the centres.

    Enlarging is plain interpolation (bicubic with a = -0.5); shrinking widens the kernel by the factor (antialiasing),
    as Pillow and torchvision do.
    """

    signature = "resize(size, method=bilinear|bicubic)"
    size: int
    method: str = "bilinear"

    def __post_init__(self):
        require_positive("size", self.size)
        choose("resizing method", self.method, RESIZINGS)

    def __call__(self, images, keys):
        shape = (images.shape[0], self.size, self.size, images.shape[-1])
        return jax.image.resize(images, shape, RESIZINGS[self.method])


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
        top, left = (round((side - self.size) / 2) for side in (height, width))
        return images[:, top : top + self.size, left : left + self.size]


@dataclasses.dataclass(frozen=True)
class Rgb(Op):
    """Repeats the one channel of grayscale images to three; images of three channels stay as they are."""

    signature = "rgb"

    def __call__(self, images, keys):
        return jnp.broadcast_to(images, (*images.shape[:-1], 3))


@dataclasses.dataclass(frozen=True)
class Bgr(Op):
    """Turns the order of the channels round, from RGB to BGR."""

    signature = "bgr"

    def __call__(self, images, keys):
        return images[..., ::-1]


@dataclasses.dataclass(frozen=True)
class Normalize(Op):
    """(image - mean) / std, channel by channel; a single mean and std are for all the channels."""

    signature = f"normalize({'|'.join(STATISTICS)}) or normalize((means), (stds))"
    mean: str | float | tuple[float, ...]
    std: float | tuple[float, ...] | None = None

    def __post_init__(self):
        mean, std = self.mean, self.std
        if isinstance(mean, str):
            require(std is None, "a named normalization takes no further argument")
            mean, std = choose("normalization", mean, STATISTICS)
        mean, std = (value if isinstance(value, tuple) else (value,) for value in (mean, std))
        numbers = finite(*mean, *std)
        require(
            numbers and len(mean) == len(std) and len(mean) in (1, 3),
            "give a name, or 1 or 3 means and as many standard deviations, as numbers",
        )
        require(min(std) > 0, "standard deviations must be above 0")
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "std", std)

    def __call__(self, images, keys):
        channels = images.shape[-1]
        require(
            len(self.mean) in (1, channels),
            f"normalize has {len(self.mean)} means, but the images have {channels} channel: put rgb before it, or give "
            "one mean and one standard deviation",
        )
        return (images - jnp.asarray(self.mean, images.dtype)) / jnp.asarray(self.std, images.dtype)


def require(condition: bool, reason: str) -> None:
    if not condition:
        raise ConfigError(f"{reason}.")


def require_positive(name: str, value) -> None:
    require(
        isinstance(value, int) and 0 < value <= LARGEST,
        f"{name} must be a whole number above 0 and up to {LARGEST:,}, not {value!r:.50}",
    )


def finite(*values) -> bool:
    """Whether all are numbers that are finite in float32."""
    return all(isinstance(value, int | float) and abs(value) < 3.4e38 for value in values)
