"""People's own image files, found and read so that they look like the images a model was trained on."""

import dataclasses
import glob
import logging
import os
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from imgcls_jax.data.dataset import listed
from imgcls_jax.data.folder import read_image
from imgcls_jax.errors import DataError
from imgcls_jax.foreign import image_suffixes, is_image

log = logging.getLogger(__name__)

DARK, LIGHT = (
    85,
    170,
)  # mean brightness, of 255, below and above which one-channel images count as dark or light
MNIST_MEAN = 50  # below it images are strokes: MNIST's mean is 33, Fashion-MNIST's 73
MNIST_SIDE, MNIST_BOX = 28, 20  # pixels of an image, and of the box around its digit


def find(paths: Iterable[str]) -> list[str]:
    """The files that paths name, in their order.

    A folder stands for the image files (`is_image`) in it and in the folders below, but not for hidden ones, and a line
    names what is skipped; a glob (`*`, `?`, `[...]`, `**`) for what it matches; each sorted. A path that leads to
    nothing stays as it is, so that reading it says so.
    """
    return [file for path in paths for file in _find(os.path.expanduser(path))]


def _find(path: str) -> list[str]:
    if os.path.isdir(path):
        below = sorted(file for file in Path(path).rglob("*") if not file.is_dir())
        hidden = {
            file for file in below if any(part[0] == "." for part in file.relative_to(path).parts)
        }
        images = [file for file in below if file not in hidden and is_image(file)]
        _tell_skipped(path, below, hidden, images)
        return [str(file) for file in images] or [path]
    if not os.path.exists(path) and glob.has_magic(path):
        return [
            file for match in sorted(glob.glob(path, recursive=True)) for file in _find(match)
        ] or [path]
    return [path]


def _tell_skipped(
    folder: str, below: Iterable[Path], hidden: Container[Path], images: Sequence[Path]
) -> None:
    """Counts and names the files of a folder that are no images, and hidden ones that have an image's suffix."""
    taken = {*images}
    rest = [file for file in below if file not in taken]
    skipped = [
        file for file in rest if file not in hidden or file.suffix.lower() in image_suffixes()
    ]
    if skipped:
        names = listed([str(file.relative_to(folder)) for file in skipped])
        log.warning(
            "Skipped in %s, as hidden or no images, %s files: %s.",
            folder,
            f"{len(skipped):,}",
            names,
        )


@dataclasses.dataclass(frozen=True)
class Reader:
    """read(path) -> (image uint8 [H, W, C], whether it was inverted): a file of any size and mode as a run takes it.

    An image that has the size already is taken as it is. Others are cut to the shape's proportions around their middle
    and resized, smoothed where they shrink. One-channel images whose border is light, where the run's are dark, or the
    other way round, are inverted.

    shape: (H, W, C). ground: "dark" or "light" where the run's one-channel images are clearly so, else "".
    digits: whether they are MNIST-like, so that others are made as MNIST's were (`as_mnist`). stretched: whether the
    run's were resized without keeping their proportions, as `data.image_size` does; then others are as well.
    """

    shape: tuple[int, int, int]
    ground: str = ""
    digits: bool = False
    stretched: bool = False

    @classmethod
    def of(cls, config: ConfigDict, report: Mapping[str, Any]) -> "Reader":
        """The reader for a run. config: its `config.data`; report: its data report."""
        train = report["splits"]["train"]
        shape, mean = tuple(train["shape"]), train["pixel_mean"]
        one_channel = shape[2] == 1
        ground = "dark" if mean < DARK else "light" if mean > LIGHT else ""
        named_by_digits = tuple(report["class_names"]) == tuple("0123456789")
        return cls(
            shape,
            ground=ground if one_channel else "",
            digits=shape == (MNIST_SIDE, MNIST_SIDE, 1) and named_by_digits and mean < MNIST_MEAN,
            stretched=bool(config.get("image_size")),
        )

    def __str__(self) -> str:
        size = f"{self.shape[0]}x{self.shape[1]} pixels"
        if self.digits:
            return f"Digits that are not of {size} are fitted into {MNIST_BOX}x{MNIST_BOX} and centred, like MNIST's."
        if self.stretched:
            return f"Images are resized to {size} without keeping their proportions, as the run's were."
        return f"Images that are not of {size} are cut to these proportions around their middle, and resized."

    def __call__(self, path: str | os.PathLike) -> tuple[np.ndarray, bool]:
        """Raises DataError, which says why, for a file that cannot be read as an image."""
        if os.path.isdir(path):
            suffixes = ", ".join(sorted(image_suffixes()))
            raise DataError(
                f"{path} is a folder without image files: none ends in {suffixes}, or has such content."
            )
        height, width, channels = self.shape
        image = read_image(path, channels=channels, image_size=height if self.stretched else 0)
        inverted = self.ground != "" and (border(image[..., 0]) > 127) == (self.ground == "dark")
        if inverted:
            image = 255 - image
        if image.shape == self.shape:
            return image, inverted
        if self.digits:
            return as_mnist(image[..., 0])[..., None], inverted
        return _fit(image, width, height).reshape(self.shape), inverted


def border(image: np.ndarray) -> float:
    """Median brightness of the outermost twentieth of an image [H, W]: its ground, wherever something is drawn."""
    wide = max(round(min(image.shape) / 20), 1)
    outer = np.ones(image.shape, bool)
    outer[wide:-wide, wide:-wide] = False
    return float(np.median(image[outer]))


def as_mnist(image: np.ndarray) -> np.ndarray:
    """A digit made as MNIST's were (LeCun et al. 1998, and http://yann.lecun.com/exdb/mnist): uint8 [28, 28].

    image: uint8 [H, W], light strokes on a dark ground of any size. The ground becomes black and the strongest stroke
    white; the digit, which is what is lighter than half of that, is resized to fit a box of 20x20, its proportions
    kept, and its centre of mass put on the pixel (14, 14). An image without strokes becomes black.
    """
    from PIL import Image
    from scipy import ndimage

    picture = Image.fromarray(image)
    picture.thumbnail(
        (4 * MNIST_SIDE, 4 * MNIST_SIDE), Image.Resampling.BOX
    )  # averages the noise of photographs
    ink = np.asarray(picture, np.float32) - border(np.asarray(picture))
    out = np.zeros((MNIST_SIDE, MNIST_SIDE), np.uint8)
    if ink.max() <= 0:
        return out
    ink = (ink / ink.max()).clip(0, 1)
    (box,) = ndimage.find_objects((ink > 0.5).astype(np.int8))
    digit = Image.fromarray((255 * ink[box]).round().astype(np.uint8))
    size = (max(round(side * MNIST_BOX / max(digit.size)), 1) for side in digit.size)
    digit = np.asarray(digit.resize(tuple(size), Image.Resampling.BILINEAR))
    middle = MNIST_SIDE // 2  # where MNIST's are, to half a pixel, counted from 0
    y, x = (
        min(max(round(middle - mass), 0), MNIST_SIDE - side)
        for mass, side in zip(ndimage.center_of_mass(digit), digit.shape, strict=True)
    )
    out[y : y + digit.shape[0], x : x + digit.shape[1]] = digit
    return out


def _fit(image: np.ndarray, width: int, height: int) -> np.ndarray:
    from PIL import Image, ImageOps

    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    return np.asarray(ImageOps.fit(picture, (width, height), Image.Resampling.BILINEAR))
