"""Folders of image files, with a folder for each class."""

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from imgcls_jax.data.checks import validate_name
from imgcls_jax.data.dataset import SPLIT_NAMES, Dataset, Datasets, log_unused, split_of
from imgcls_jax.data.lazy_images import LazyImages
from imgcls_jax.errors import DataError, listed, printable, shape_text
from imgcls_jax.foreign import image_suffixes, is_image, open_image

if TYPE_CHECKING:
    from PIL.Image import Image

# Pillow's modes of integers and floats, which it would clip to 8 bits.
DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")
# Pillow's modes of grayscale, without and with alpha.
GRAYSCALE_MODES = ("1", "L", "LA", "La", *DEEP_MODES)
PAGED_SUFFIXES = (".tif", ".tiff", ".gif")  # of files that may have several images
EXPECTED = (
    "Expected is PATH/train/CLASS/*, with PATH/val/CLASS/* and PATH/test/CLASS/* if there are "
    "such, or PATH/CLASS/*."
)

Classes = dict[str, list[Path]]  # class name -> image files


def find_images(path: Path) -> dict[str, Classes]:
    """Returns the image files of each class of each split, sorted by name.

    They are under PATH/train/CLASS/, PATH/val/CLASS/ and PATH/test/CLASS/, if these exist, or
    PATH/CLASS/, which is one split. The folders of the splits may have any of SPLIT_NAMES. What is
    not used is logged. Raises DataError for anything else.
    """
    if not _has_splits(path):
        return {"train": _find_classes(path)}
    split_folders = _split_folders(path)
    splits = {}
    for split in SPLIT_NAMES:
        if split in split_folders:
            splits[split] = _find_classes(split_folders[split])
    for split, classes in splits.items():
        different = set(splits["train"]) ^ set(classes)
        if different:
            raise DataError(
                f"{path}: the class folders {listed(sorted(different))} are only in one of train "
                f"and {split}. Both need the same classes: add or rename folders."
            )
    return splits


def _has_splits(path: Path) -> bool:
    """Returns whether there is a training split.

    A class called "train" has no folders in it, and a class of another name beside it.
    """
    folders = _visible_folders(path)
    are_splits = all(split_of(folder.name) for folder in folders)
    for folder in folders:
        if split_of(folder.name) == "train" and (are_splits or _visible_folders(folder)):
            return True
    return False


def _split_folders(path: Path) -> dict[str, Path]:
    """Returns the folder of each split, and logs what else is in `path`."""
    split_folders: dict[str, Path] = {}
    unused = []
    for entry in _visible(path):
        split = split_of(entry.name)
        if split is None or not entry.is_dir():
            unused.append(entry.name)
        elif split in split_folders:
            raise DataError(
                f"{path} has {split_folders[split].name} and {entry.name}: two {split} sets. Keep "
                "one of them."
            )
        else:
            split_folders[split] = entry
    log_unused(path, unused, "train, val and test are")
    return split_folders


def _find_classes(folder: Path) -> Classes:
    classes = {}
    for class_folder in _visible_folders(folder):
        validate_name(str(class_folder), "class folder")
        classes[class_folder.name] = _find_class_images(class_folder)
    loose = _visible_files(folder)
    if not classes and loose:
        raise DataError(
            f"{folder} holds no class folders, but {len(loose):,} files ({loose[0]}, ...), and "
            "nothing says their classes. Sort them into class folders. To classify images without "
            f"classes, keep them elsewhere and use imgcls predict. {EXPECTED}"
        )
    if not classes:
        raise DataError(f"{folder} holds no class folders. {EXPECTED}")
    log_unused(folder, [file.name for file in loose], "they are in no class folder")
    log_unused(folder, _hidden_images(folder), "hidden")
    return classes


def _hidden_images(folder: Path) -> list[str]:
    hidden = sorted(folder.glob("[!.]*/.*"))
    images = [file for file in hidden if file.suffix.lower() in image_suffixes()]
    return [str(file.relative_to(folder)) for file in images]


def _find_class_images(folder: Path) -> list[Path]:
    subfolders = _visible_folders(folder)
    if subfolders:
        raise DataError(
            f"{subfolders[0]} is a folder inside a class folder, where only image files are "
            f"accepted. {EXPECTED}"
        )
    images = _visible_files(folder)
    if not images:
        raise DataError(f"The class folder {folder} is empty. Put images into it or remove it.")
    for file in images:
        if not is_image(file):
            raise DataError(
                f"{file} cannot be read as an image: neither its suffix nor its content is one's. "
                "Repair or remove it."
            )
    return images


def _visible_folders(folder: Path) -> list[Path]:
    return [entry for entry in _visible(folder) if entry.is_dir()]


def _visible_files(folder: Path) -> list[Path]:
    return [entry for entry in _visible(folder) if not entry.is_dir()]


def _visible(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def image_paths(splits: Iterable[Classes]) -> list[Path]:
    """Returns all the image files of several splits, in order."""
    paths = []
    for classes in splits:
        for files in classes.values():
            paths += files
    return paths


def unreadable(splits: dict[str, Classes]) -> dict[Path, str]:
    """Returns the files that cannot be read as images, each with the reason."""

    def reason(path: Path) -> str:
        try:
            read_image(path, channels=3)
        except DataError as error:
            return str(error)
        return ""

    paths = image_paths(splits.values())
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        reasons = threads.map(reason, paths)
        return {path: text for path, text in zip(paths, reasons, strict=True) if text}


def page_warnings(classes: Classes) -> tuple[str, ...]:
    """Returns a warning of the files that have more than the one image that is read, if any."""
    several = []
    for path in image_paths([classes]):
        if path.suffix.lower() in PAGED_SUFFIXES and _has_second_page(path):
            several.append(printable(path.name))
    if not several:
        return ()
    return (
        f"Of files with several pages or frames only the first is used: {listed(several)}. "
        "Save each as a file of its own to use all.",
    )


def _has_second_page(path: Path) -> bool:
    try:
        with open_image(path) as image:
            image.seek(1)
        return True
    except Exception:  # the end, or whatever a damaged file makes Pillow raise
        return False


def read_folder(
    splits: dict[str, Classes], *, image_size: int = 0, fit: str = "stretch"
) -> Datasets:
    """Returns the data sets of the image files that `find_images` returned.

    The images have one channel if all of them are grayscale, else they are RGB. They are decoded
    when they are asked for, by as many threads as there are cores. image_size: side to which every
    image is resized; with 0 all of them must have the same size, else decoding raises DataError.
    fit: the name in FITS of how an image that is not square becomes one.
    """
    paths = image_paths(splits.values())
    channels = 1 if all(_is_grayscale(path) for path in paths) else 3
    first = paths[0]
    shape = read_image(first, channels=channels, image_size=image_size, fit=fit).shape

    def decode(path: Path) -> np.ndarray:
        image = read_image(path, channels=channels, image_size=image_size, fit=fit)
        if image.shape != shape:
            raise DataError(
                f"{path} is {shape_text(image.shape)}, {first} is {shape_text(shape)} (height x "
                "width x channels). All images need one shape: --config.data.image_size=N resizes "
                "each to N x N."
            )
        return image

    def dataset(classes: Classes) -> Dataset:
        split_paths = image_paths([classes])

        def read(indices: np.ndarray) -> np.ndarray:
            images = np.empty((len(indices), *shape), np.uint8)

            def decode_row(row: int) -> None:
                images[row] = decode(split_paths[indices[row]])

            with ThreadPoolExecutor(os.cpu_count()) as threads:
                list(threads.map(decode_row, range(len(indices))))  # raises the first error
            return images

        counts = [len(files) for files in classes.values()]
        labels = np.repeat(np.arange(len(classes), dtype=np.int32), counts)
        images = LazyImages(read, shape, np.arange(len(split_paths)))
        return Dataset(images, labels, tuple(classes))

    return {split: dataset(classes) for split, classes in splits.items()}


def read_image(
    source: str | os.PathLike | BinaryIO,
    *,
    channels: int,
    image_size: int = 0,
    fit: str = "stretch",
) -> np.ndarray:
    """Reads an image file, or an open file with its content, as uint8 [H, W, channels].

    It is turned upright by its EXIF orientation, and what is transparent becomes white. Grayscale
    of 16 bits is divided by 257. Where a file does not say its range, of integers of 32 bits and of
    floats, the values do: up to 255 they are of 8 bits, integers up to 65,535 of 16 bits, floats up
    to 1 shares of white.

    channels: 1 for grayscale or 3 for RGB. image_size: side to which the image is resized
    (bilinear), 0 for its own size. fit: the name in FITS of how an image that is not square becomes
    one. Raises DataError that names the file.
    """
    from PIL import Image, ImageOps

    try:
        with open_image(source) as image:
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
            f"{_name(source)} cannot be read as an image ({error}). Repair or remove it."
        ) from error
    if image_size:
        image = FITS[fit](image, image_size)
    pixels = np.asarray(image)
    if channels == 1:
        pixels = pixels[..., None]
    return pixels


def _name(source: str | os.PathLike | BinaryIO) -> str:
    if isinstance(source, str | os.PathLike):
        return str(source)
    return "The file"


def _stretch(image: "Image", size: int) -> "Image":
    from PIL.Image import Resampling

    return image.resize((size, size), Resampling.BILINEAR)


def _crop(image: "Image", size: int) -> "Image":
    """Cuts the longer side to the length of the shorter one, around the middle, and resizes."""
    from PIL import ImageOps
    from PIL.Image import Resampling

    return ImageOps.fit(image, (size, size), Resampling.BILINEAR)


def _pad(image: "Image", size: int) -> "Image":
    """Resizes the longer side, and fills up the shorter one with the border's median colour."""
    from PIL import Image

    longest = max(image.size)
    width = max(round(image.width * size / longest), 1)
    height = max(round(image.height * size / longest), 1)
    pixels = np.asarray(image)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    colour = np.atleast_1d(np.median(border, axis=0)).round().astype(int)
    padded = Image.new(image.mode, (size, size), tuple(colour.tolist()))
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    padded.paste(resized, ((size - width) // 2, (size - height) // 2))
    return padded


# How an image that is not square becomes one: functions of a Pillow image and the side in pixels.
FITS: Mapping[str, "Callable[[Image, int], Image]"] = {
    "stretch": _stretch,
    "crop": _crop,
    "pad": _pad,
}


def _eight_bits(values: np.ndarray, mode: str) -> np.ndarray:
    """Converts the values of an image of one of the DEEP_MODES to uint8 [H, W].

    Raises ValueError for values of an unknown range.
    """
    low = values.min()
    high = values.max()
    if mode.startswith("I;16"):
        values = values / 257
    elif mode == "I" and low >= 0 and 255 < high <= 65535:
        values = values / 257
    elif mode == "F" and low >= 0 and high <= 1:
        values = values * 255
    elif not (low >= 0 and high <= 255):  # also true for NaN
        raise ValueError(
            f"its values reach from {low} to {high}: save it with 8 bits, from 0 to 255"
        )
    return values.round().astype(np.uint8)


def _is_grayscale(path: Path) -> bool:
    try:
        with open_image(path) as image:
            return image.mode in GRAYSCALE_MODES
    except Exception:  # read_image will say why it cannot be read
        return True
