"""Finds people's own image files, and makes them look like the images a model was trained on."""

import dataclasses
import glob
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from ml_collections import ConfigDict

from imgcls_jax.data.borders import border, has_light_border
from imgcls_jax.data.dataset import log_unused
from imgcls_jax.data.folder import read_image
from imgcls_jax.errors import DataError
from imgcls_jax.foreign import image_suffixes, is_image

# A run's one-channel images have one ground if so many of them have it. Runs of earlier versions do
# not say how many: a mean brightness, of 255, below DARK or above LIGHT counts there.
SAME_GROUND = 0.99
DARK = 85
LIGHT = 170
DIGITS = tuple("0123456789")  # MNIST's class names
MNIST_MEAN = 50  # below it images are strokes: MNIST's mean is 33, Fashion-MNIST's 73
MNIST_SIDE = 28  # pixels of an image
MNIST_BOX = 20  # pixels of the box around a digit


def find(paths: Iterable[str]) -> list[str]:
    """Returns the files that paths name, in their order.

    A folder stands for the image files (`is_image`) in it and its subfolders, without hidden ones.
    A glob (`*`, `?`, `[...]`, `**`) stands for what it matches. Both are sorted. Files that are
    skipped are logged. A path that does not exist stays as it is, so that reading it is an error.
    """
    files = []
    for path in paths:
        files += _find(os.path.expanduser(path))
    return files


def _find(path: str) -> list[str]:
    if os.path.isdir(path):
        return _images_below(path) or [path]
    if os.path.exists(path) or not glob.has_magic(path):
        return [path]
    files = []
    for match in sorted(glob.glob(path, recursive=True)):
        files += _find(match)
    return files or [path]


def _images_below(folder: str) -> list[str]:
    images = []
    skipped = []
    for file in _files_below(Path(folder)):
        name = file.relative_to(folder)
        if any(part.startswith(".") for part in name.parts):
            # Other hidden files are not worth a mention.
            if file.suffix.lower() in image_suffixes():
                skipped.append(str(name))
        elif is_image(file):
            images.append(str(file))
        else:
            skipped.append(str(name))
    log_unused(folder, skipped, "hidden, or no images")
    return images


def _files_below(folder: Path, parents: tuple[str, ...] = ()) -> Iterator[Path]:
    """Yields the files in a folder and its subfolders, sorted, and a folder that cannot be read.

    Links are followed, but not in a circle. parents: real paths of the folders above.
    """
    parents = (*parents, os.path.realpath(folder))
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        yield folder
        return
    for entry in entries:
        if not entry.is_dir():
            yield entry
        elif os.path.realpath(entry) not in parents:
            yield from _files_below(entry, parents)


@dataclasses.dataclass(frozen=True)
class Reader:
    """Reads a file of any size and mode as images of a run are.

    `reader(file)` returns an image, uint8 [H, W, C], and whether it was inverted. An image that has
    the size already is taken as it is. Others are cropped around their middle to the shape's
    proportions and resized, smoothed where they shrink. One-channel images whose border is light
    where nearly all of the run's are dark, or the other way round, are inverted.

    shape: (H, W, C). ground: "dark" or "light" if nearly all of the run's one-channel images are so
    at the border, else "". digits: whether the run's are MNIST-like, so that others are made as
    MNIST's were (`as_mnist`). fit: how the run's were made square when they were read, `data.fit`
    of a run with `data.image_size`, else ""; others are made square alike.
    """

    shape: tuple[int, int, int]
    ground: str = ""
    digits: bool = False
    fit: str = ""

    @classmethod
    def of(cls, config: ConfigDict, report: Mapping[str, Any]) -> "Reader":
        """Returns the reader for a run, from its `config.data` and its data report."""
        train = report["splits"]["train"]
        shape = tuple(train["shape"])
        mean = train["pixel_mean"]
        has_digits = tuple(report["class_names"]) == DIGITS and mean < MNIST_MEAN
        fit = ""
        if config.get("image_size"):
            fit = config.get("fit", "stretch")  # exports of version 0.1 do not have it
        return cls(
            shape,
            ground=_ground(train),
            digits=shape == (MNIST_SIDE, MNIST_SIDE, 1) and has_digits,
            fit=fit,
        )

    def __str__(self) -> str:
        size = f"{self.shape[0]}x{self.shape[1]} pixels"
        if self.digits:
            return (
                f"Digits that are not of {size} are fitted into {MNIST_BOX}x{MNIST_BOX} and "
                "centred, like MNIST's."
            )
        if self.fit == "stretch":
            return (
                f"Images are resized to {size} without keeping their proportions, as the run's "
                "were."
            )
        if self.fit == "pad":
            return (
                f"Images are padded to squares with the colour of their border and resized to "
                f"{size}, as the run's were."
            )
        return (
            f"Images that are not of {size} are cut to these proportions around their middle, and "
            "resized."
        )

    def __call__(self, file: str | os.PathLike | BinaryIO) -> tuple[np.ndarray, bool]:
        """Reads a file, by its path or open.

        Raises DataError, which says why, if it cannot be read as an image.
        """
        if isinstance(file, str | os.PathLike):
            _refuse_folder(file)
        height, width, channels = self.shape
        if self.fit:
            image = read_image(file, channels=channels, image_size=height, fit=self.fit)
        else:
            image = read_image(file, channels=channels)
        inverted = self._has_other_ground(image)
        if inverted:
            image = 255 - image
        if image.shape == self.shape:
            return image, inverted
        if self.digits:
            return as_mnist(image[..., 0])[..., None], inverted
        return _fit(image, width, height).reshape(self.shape), inverted

    def _has_other_ground(self, image: np.ndarray) -> bool:
        if not self.ground:
            return False
        return bool(has_light_border(image[..., 0])) == (self.ground == "dark")


def _ground(split: Mapping[str, Any]) -> str:
    """Returns the ground of a split's one-channel images by its report, "" if they have several."""
    if split["shape"][2] != 1:
        return ""
    light = split.get("light_borders")
    if light is None:
        is_light, is_dark = split["pixel_mean"] > LIGHT, split["pixel_mean"] < DARK
    else:
        is_light, is_dark = light >= SAME_GROUND, light <= 1 - SAME_GROUND
    if is_light:
        return "light"
    if is_dark:
        return "dark"
    return ""


def _refuse_folder(path: str | os.PathLike) -> None:
    if os.path.isdir(path):
        suffixes = ", ".join(sorted(image_suffixes()))
        raise DataError(
            f"{path} is a folder without image files: none ends in {suffixes}, or has such content."
        )


def as_mnist(image: np.ndarray) -> np.ndarray:
    """Makes a digit as MNIST's were made, uint8 [28, 28].

    See LeCun et al., 1998, and http://yann.lecun.com/exdb/mnist. image: uint8 [H, W], light strokes
    on a dark ground, of any size. The ground becomes black and the strongest stroke white. The
    digit, what is lighter than half of that, is resized to fit a box of 20x20, with its proportions
    kept, and its centre of mass is put on the pixel (14, 14). An image without strokes becomes
    black.
    """
    from PIL import Image
    from scipy import ndimage

    picture = Image.fromarray(image)
    # Averages the noise of photographs.
    picture.thumbnail((4 * MNIST_SIDE, 4 * MNIST_SIDE), Image.Resampling.BOX)
    ink = np.asarray(picture, np.float32) - border(np.asarray(picture))
    out = np.zeros((MNIST_SIDE, MNIST_SIDE), np.uint8)
    if ink.max() <= 0:
        return out
    ink = (ink / ink.max()).clip(0, 1)
    (box,) = ndimage.find_objects((ink > 0.5).astype(np.int8))
    digit = Image.fromarray((255 * ink[box]).round().astype(np.uint8))
    longest = max(digit.size)
    width, height = (max(round(side * MNIST_BOX / longest), 1) for side in digit.size)
    digit = np.asarray(digit.resize((width, height), Image.Resampling.BILINEAR))
    row, column = ndimage.center_of_mass(digit)
    top = _centred(row, height)
    left = _centred(column, width)
    out[top : top + height, left : left + width] = digit
    return out


def _centred(mass: float, side: int) -> int:
    """Returns the start of a digit's side so that its centre of mass is in the middle."""
    start = round(MNIST_SIDE // 2 - mass)
    return min(max(start, 0), MNIST_SIDE - side)


def _fit(image: np.ndarray, width: int, height: int) -> np.ndarray:
    from PIL import Image, ImageOps

    if image.shape[-1] == 1:
        image = image[..., 0]
    picture = Image.fromarray(image)
    return np.asarray(ImageOps.fit(picture, (width, height), Image.Resampling.BILINEAR))
