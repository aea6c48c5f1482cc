"""Files that hold many images each: CSV files with a row of pixels for each image, and .npz files."""

from pathlib import Path

import numpy as np

from imgcls_jax.data import csv_files, npz_files
from imgcls_jax.errors import DataError, shape_text
from imgcls_jax.foreign import check_regular

NPZ_SUFFIX = ".npz"


def is_array_file(path: str) -> bool:
    """Returns whether a path names such a file, by its suffix: .csv, .csv.gz or .npz."""
    return path.lower().endswith(NPZ_SUFFIX) or bool(csv_files.CSV_NAME.search(path))


def read(path: str, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns the images of a file, uint8 [N, H, W, C], and their labels int [N] or None.

    shape: (H, W, C), which the images need to have. Raises DataError if they have not, or if the
    file cannot be read.
    """
    try:
        check_regular(path)
    except (OSError, ValueError) as error:  # ValueError for a name that no file can have
        raise DataError(f"{path} cannot be read ({error}).") from error
    if path.lower().endswith(NPZ_SUFFIX):
        images, labels = npz_files.read_images(Path(path))
    else:
        images, labels = csv_files.read_images(Path(path))
    if images.dtype != np.uint8 or images.shape[1:] != shape:
        raise DataError(
            f"{path} holds images of {shape_text(images.shape[1:])} {images.dtype}; this model "
            f"takes {shape_text(shape)} uint8. Convert them, or save them as image files, which "
            "are resized."
        )
    return images, labels
