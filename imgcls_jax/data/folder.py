"""Folders of image files, a folder a class."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from imgcls_jax.data.checks import refuse_name, shape_text
from imgcls_jax.data.dataset import SPLIT_NAMES, Dataset, split_of, tell_unused
from imgcls_jax.data.lazy_images import LazyImages
from imgcls_jax.errors import DataError
from imgcls_jax.foreign import is_image, open_image

DEEP_MODES = (
    "I",
    "I;16",
    "I;16B",
    "I;16L",
    "I;16N",
    "F",
)  # integers and floats, which Pillow would clip to 8 bits
GRAYSCALE_MODES = (
    "1",
    "L",
    "LA",
    "La",
    *DEEP_MODES,
)  # Pillow's names of grayscale, without and with alpha

EXPECTED = (
    "Expected is PATH/train/CLASS/*, with PATH/val/CLASS/* and PATH/test/CLASS/* if there are such, or "
    "PATH/CLASS/*."
)

Files = dict[str, dict[str, list[Path]]]  # split -> class -> image files


def find_images(path: Path) -> Files:
    """The image files under PATH/train/CLASS/, with PATH/val/CLASS/ and PATH/test/CLASS/ where they are there, or
    PATH/CLASS/ (one split), sorted by name. The folders of the splits may have any of SPLIT_NAMES.

    What is there besides is named in a line. Raises DataError for what is none of these forms.
    """
    folders = _visible(path, folders=True)
    if not any(
        split_of(folder.name) == "train" and _visible(folder, folders=True) for folder in folders
    ):
        return {"train": _classes(path)}
    of_splits: dict[str, Path] = {}
    for folder in folders:
        split = split_of(folder.name)
        if split in of_splits:
            raise DataError(
                f"{path} has {of_splits[split].name} and {folder.name}: two {split} sets. Keep one of them."
            )
        if split:
            of_splits[split] = folder
    tell_unused(
        path, _names(set(path.iterdir()) - {*of_splits.values()}), "train, val and test are"
    )
    found = {split: _classes(of_splits[split]) for split in SPLIT_NAMES if split in of_splits}
    for split, classes in found.items():
        if other := sorted(set(found["train"]) ^ set(classes)):
            raise DataError(
                f"{path}: the class folders {', '.join(other)} are only in one of train and {split}. "
                "Both need the same classes: add or rename folders."
            )
    return found


def _classes(folder: Path) -> dict[str, list[Path]]:
    classes = {}
    for subfolder in _visible(folder, folders=True):
        refuse_name(str(subfolder), "class folder")
        inner = _visible(subfolder, folders=True)
        if inner:
            raise DataError(
                f"{inner[0]} is a folder inside a class folder, where only image files are accepted. {EXPECTED}"
            )
        classes[subfolder.name] = _visible(subfolder, folders=False)
        if not classes[subfolder.name]:
            raise DataError(
                f"The class folder {subfolder} is empty. Put images into it or remove it."
            )
        if other := next((file for file in classes[subfolder.name] if not is_image(file)), None):
            raise DataError(
                f"{other} cannot be read as an image: neither its suffix nor its content is one's. Repair or remove it."
            )
    loose = _names(_visible(folder, folders=False))
    if loose and not classes:
        raise DataError(
            f"{folder} holds no class folders, but {len(loose):,} files ({loose[0]}, ...), and nothing says their "
            "classes. Sort them into class folders; what has no classes should be elsewhere, for imgcls predict. "
            f"{EXPECTED}"
        )
    if not classes:
        raise DataError(f"{folder} holds no class folders. {EXPECTED}")
    tell_unused(folder, loose, "they are in no class folder")
    return classes


def _visible(folder: Path, *, folders: bool) -> list[Path]:
    return sorted(
        path for path in folder.iterdir() if path.name[0] != "." and path.is_dir() == folders
    )


def _names(paths: Iterable[Path]) -> list[str]:
    """Sorted, without the hidden ones."""
    return sorted(path.name for path in paths if path.name[0] != ".")


def read_folder(files: Files, *, image_size: int = 0) -> dict[str, Dataset]:
    """What `find_images` found: one channel if all the images are grayscale, RGB otherwise.

    Images are decoded when they are asked for, by as many threads as there are cores. image_size: side to which every
    image is resized; with 0 all of them must have the same size, else decoding raises DataError.
    """
    every = [
        file for classes in files.values() for of_class in classes.values() for file in of_class
    ]
    channels = 1 if all(_is_grayscale(file) for file in every) else 3
    first, shape = every[0], read_image(every[0], channels=channels, image_size=image_size).shape

    def decode(file: Path) -> np.ndarray:
        image = read_image(file, channels=channels, image_size=image_size)
        if image.shape != shape:
            raise DataError(
                f"{file} is {shape_text(image.shape)}, {first} is {shape_text(shape)} (height x width x channels). "
                "All images need one shape: --config.data.image_size=N resizes each to N x N."
            )
        return image

    def dataset(classes: dict[str, list[Path]]) -> Dataset:
        of_split = [file for of_class in classes.values() for file in of_class]

        def read(numbers: np.ndarray) -> np.ndarray:
            images = np.empty((len(numbers), *shape), np.uint8)

            def put(place: int) -> None:
                images[place] = decode(of_split[numbers[place]])

            with ThreadPoolExecutor(os.cpu_count()) as threads:
                list(threads.map(put, range(len(numbers))))  # raises the first error
            return images

        labels = np.repeat(
            np.arange(len(classes), dtype=np.int32),
            [len(of_class) for of_class in classes.values()],
        )
        return Dataset(LazyImages(read, shape, np.arange(len(of_split))), labels, tuple(classes))

    return {split: dataset(classes) for split, classes in files.items()}


def read_image(path: str | os.PathLike, *, channels: int, image_size: int = 0) -> np.ndarray:
    """One image file as uint8 [H, W, channels], upright by its EXIF orientation, what is transparent on white.

    channels: 1 for grayscale or 3 for RGB; image_size: side to which it is resized (bilinear), 0 for its own size.
    Grayscale of 16 bits is divided by 257. Where a file does not say its range, of integers of 32 bits and floats, the
    values do: up to 255 they are of 8 bits, integers up to 65,535 of 16, floats up to 1 shares of white.
    Errors: DataError that names the file.
    """
    from PIL import Image, ImageOps

    try:
        with open_image(path) as image:
            image = ImageOps.exif_transpose(image)
            if image.mode in DEEP_MODES:
                image = Image.fromarray(_eight_bits(np.asarray(image), image.mode))
            elif image.has_transparency_data:
                image = image.convert("RGBA")
                white = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(white, image)
            image = image.convert("L" if channels == 1 else "RGB")
    except Exception as error:  # a damaged file can make Pillow raise nearly anything
        raise DataError(
            f"{path} cannot be read as an image ({error}). Repair or remove it."
        ) from error
    if image_size:
        image = image.resize((image_size, image_size), Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    return pixels[..., None] if channels == 1 else pixels


def _eight_bits(values: np.ndarray, mode: str) -> np.ndarray:
    """uint8 [H, W] of the values of an image of one of the DEEP_MODES. Raises ValueError for what has another range."""
    low, high = values.min(), values.max()
    if mode.startswith("I;16") or (mode == "I" and low >= 0 and 255 < high <= 65535):
        values = values / 257
    elif mode == "F" and low >= 0 and high <= 1:
        values = values * 255
    elif not (low >= 0 and high <= 255):  # NaN is neither
        raise ValueError(
            f"its values reach from {low} to {high}: save it with 8 bits, from 0 to 255"
        )
    return values.round().astype(np.uint8)


def _is_grayscale(path: Path) -> bool:
    try:
        with open_image(path) as image:
            return image.mode in GRAYSCALE_MODES
    except Exception:  # what cannot be read is refused by read_image, which says why
        return True
