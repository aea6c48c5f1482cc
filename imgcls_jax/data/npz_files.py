"""NumPy's .npz files of images and labels: reads them, or refuses them by name."""

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from imgcls_jax.data.dataset import SPLIT_NAMES, ArraysBySplit, log_unused
from imgcls_jax.data.idx_files import MAX_DEFLATE_RATIO
from imgcls_jax.errors import DataError

HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


Names = dict[str, tuple[str, str]]  # of the arrays with images and labels, by split


def read_npz(path: Path) -> tuple[ArraysBySplit, tuple[str, ...] | None]:
    """Returns the splits of an .npz file, with dtypes as stored, and its class names, if any.

    The file holds arrays train_images and train_labels, or x_train and y_train as Keras names
    them, the same for val and test if there are such sets; or only images and labels. Images of
    one channel may be [N, H, W], labels [N, 1]. Other arrays are logged as unused. Raises DataError
    for a file that is damaged or has other content.
    """
    names, arrays, unused = _read_arrays(path)
    _check_complete(path, names, arrays, unused)
    log_unused(path, unused, "its arrays of train, val and test are")
    splits = {}
    for split, (images_name, labels_name) in names.items():
        images = _with_channels(arrays[images_name])
        splits[split] = (images, _in_a_row(arrays[labels_name]))
    return splits, _class_names(arrays)


def read_images(path: Path) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...] | None]:
    """Returns the images of an .npz file that are to be classified, their labels and class names.

    They are the arrays `test_images` and `test_labels`, or `x_test` and `y_test`, if there are
    such, else `images` and `labels`; labels and `class_names` are None if there are none. Other
    arrays are logged as unused. Raises DataError if there are no such images, or labels that do not
    fit them.
    """
    names, arrays, unused = _read_arrays(path)
    images_name, labels_name = names.get("test", names["train"])
    if images_name not in arrays:
        present = ", ".join([*arrays, *unused]) or "none"
        raise DataError(
            f"{path} has no array {images_name}; it holds {present}. Accepted are images, "
            "test_images or x_test."
        )
    chosen = (images_name, labels_name, "class_names")
    others = [name for name in arrays if name not in chosen]
    log_unused(path, [*others, *unused], f"{images_name} is")
    images = _with_channels(arrays[images_name])
    if labels_name not in arrays:
        return images, None, None
    labels = _in_a_row(arrays[labels_name])
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise DataError(
            f"{path}: {labels_name} is {labels.dtype} {list(labels.shape)}, for "
            f"{len(images)} images. Give one integer for each image, or leave the array out."
        )
    return images, labels, _class_names(arrays)


def _with_channels(images: np.ndarray) -> np.ndarray:
    if images.ndim == 3:
        return images[..., None]
    return images


def _in_a_row(labels: np.ndarray) -> np.ndarray:
    """Returns labels [N] for labels [N, 1], as MedMNIST has them."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        return labels[:, 0]
    return labels


def _read_arrays(
    path: Path,
) -> tuple[Names, dict[str, np.ndarray], list[str]]:
    """Returns the names of each split's arrays, the arrays by name, and names of unused arrays."""
    try:
        _check_sizes(path)
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as content:
            names = _array_names(content.files)
            used = {"class_names"}.union(*names.values())
            arrays = {name: content[name] for name in content.files if name in used}
            unused = [name for name in content.files if name not in used]
            return names, arrays, unused
    except DataError as error:
        raise DataError(f"{path} {error}") from error
    except Exception as error:  # a damaged file can raise nearly anything
        raise DataError(
            f"{path} cannot be read as an .npz file of plain arrays ({error}). Write it by "
            "numpy.savez; arrays of objects are not accepted, since they may run code: store "
            "class_names as an array of text."
        ) from error


def _check_sizes(path: Path) -> None:
    """Raises ValueError if an array would be larger than its compressed content can be.

    numpy.load would ask for its memory first.
    """
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            with archive.open(entry) as file:
                version = np.lib.format.read_magic(file)
                if version not in HEADER_READERS:
                    raise ValueError(f"{entry.filename} is of an unknown version")
                shape, _, dtype = HEADER_READERS[version](file)
            array_bytes = math.prod(shape) * dtype.itemsize
            max_bytes = min(entry.file_size, entry.compress_size * MAX_DEFLATE_RATIO)
            if array_bytes > max_bytes:
                raise ValueError(f"{entry.filename} announces {shape} {dtype}, which is not there")


def _array_names(names: Sequence[str]) -> Names:
    """Returns the names of images and labels of each split that an .npz file has arrays of.

    Raises DataError, without the name of the file, for two sets of one split.
    """
    array_names = {}
    for split, words in SPLIT_NAMES.items():
        pairs = []
        for word in words:
            pairs.append((f"{word}_images", f"{word}_labels"))
            pairs.append((f"x_{word}", f"y_{word}"))
        if split == "train":
            pairs.append(("images", "labels"))
        present = [pair for pair in pairs if pair[0] in names or pair[1] in names]
        if len(present) > 1:
            raise DataError(
                f"has {present[0][0]} and {present[1][0]}: two {split} sets. Keep one of them."
            )
        if present:
            array_names[split] = present[0]
        elif split == "train":
            array_names[split] = ("images", "labels")
    return array_names


def _check_complete(
    path: Path,
    names: Names,
    arrays: dict[str, np.ndarray],
    unused: Sequence[str],
) -> None:
    missing = []
    for pair in names.values():
        missing += [name for name in pair if name not in arrays]
    if missing:
        present = ", ".join([*arrays, *unused]) or "none"
        raise DataError(
            f"{path} has no array {' and no '.join(missing)}; it holds {present}. Accepted are "
            "train_images and train_labels or x_train and y_train, the same of val and test, or "
            "images and labels, and class_names if wanted."
        )


def _class_names(arrays: dict[str, np.ndarray]) -> tuple[str, ...] | None:
    if "class_names" not in arrays:
        return None
    names = []
    for name in arrays["class_names"].ravel().tolist():
        if isinstance(name, bytes):
            name = name.decode(errors="surrogateescape")  # checks.py says if it is not UTF-8
        names.append(str(name))
    return tuple(names)
