"""Files that hold many images each: CSV files with a row of pixels for each image, and .npz files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from imgcls_jax.data import csv_files, npz_files
from imgcls_jax.errors import DataError, shape_text
from imgcls_jax.foreign import check_regular

NPZ_SUFFIX = ".npz"


def is_array_file(path: str) -> bool:
    """Returns whether a path names such a file, by its suffix: .csv, .csv.gz or .npz."""
    return path.lower().endswith(NPZ_SUFFIX) or bool(csv_files.CSV_NAME.search(path))


def read(
    path: str, shape: tuple[int, int, int], class_names: Sequence[str] = ()
) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns the images of a file, uint8 [N, H, W, C], and their labels int [N] or None.

    shape: (H, W, C), which the images need to have. class_names: those that the labels should be
    numbers of, if given; labels of a file with class names of its own are translated, to -1 where
    the name is another. Raises DataError if the images have another shape, or if the file cannot be
    read.
    """
    try:
        check_regular(path)
    except (OSError, ValueError) as error:  # ValueError for a name that no file can have
        raise DataError(f"{path} cannot be read ({error}).") from error
    if path.lower().endswith(NPZ_SUFFIX):
        images, labels, own_names = npz_files.read_images(Path(path))
        labels = _translated(labels, own_names, class_names)
    else:
        images, labels = csv_files.read_images(Path(path))
    if images.dtype != np.uint8 or images.shape[1:] != shape:
        raise DataError(
            f"{path} holds images of {shape_text(images.shape[1:])} {images.dtype}; this model "
            f"takes {shape_text(shape)} uint8. Convert them, or save them as image files, which "
            "are resized."
        )
    return images, labels


def _translated(
    labels: np.ndarray | None, own_names: Sequence[str] | None, class_names: Sequence[str]
) -> np.ndarray | None:
    """Returns labels of `own_names` as numbers of `class_names`, -1 where there is no such class."""
    if labels is None or own_names is None or not class_names:
        return labels
    numbers = {name: number for number, name in enumerate(class_names)}
    translated = []
    for label in labels:
        name = own_names[label] if 0 <= label < len(own_names) else ""
        translated.append(numbers.get(name, -1))
    return np.array(translated)
