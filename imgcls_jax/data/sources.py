"""Where images come from: a table of names and functions of `config.data`.

Each gives {"train": Dataset}, with "validation" and "test" where the source has such sets of its own.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from imgcls_jax.data import cifar as cifar_files
from imgcls_jax.data import folder as image_folder
from imgcls_jax.data import readers, tfds_reader
from imgcls_jax.data.cache import cached
from imgcls_jax.data.dataset import Dataset
from imgcls_jax.errors import ConfigError, DataError


def digits(config: ConfigDict) -> dict[str, Dataset]:
    """scikit-learn's embedded digits: 1,797 images of 8 x 8 x 1, their values 0 to 16 scaled to 0 to 255."""
    _refuse_image_size(config)
    from sklearn.datasets import load_digits

    data = load_digits()
    images = np.round(data.images * (255 / 16)).astype(np.uint8)[..., None]
    return {
        "train": Dataset(
            images, data.target.astype(np.int32), tuple(str(name) for name in data.target_names)
        )
    }


def tfds(config: ConfigDict) -> dict[str, Dataset]:
    """A data set of TensorFlow Datasets, from its data folder, or prepared there by TFDS if there is a network."""
    _refuse_image_size(config)
    if config.path:
        folder = _path(config, "the TFDS data folder", "folder")
    else:
        folder = Path(
            os.path.expanduser(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
        ).resolve()
    tfds_reader.check_name(config.name)
    directory = tfds_reader.find_prepared(config.name, folder)
    if directory is None and not config.get("keep", True):
        raise DataError(
            f"The TFDS data set {config.name!r} of this run is not prepared in {folder}; only training prepares it. "
            f"$TFDS_DATA_DIR names the folder that has it."
        )
    directory = directory or tfds_reader.prepare(config.name, folder)
    tfds_reader.tell_unused_splits(directory)
    files = sorted(path for path in directory.iterdir() if not path.is_dir())
    return _cached(config, directory, files, lambda: tfds_reader.read_prepared(directory))


def idx(config: ConfigDict) -> dict[str, Dataset]:
    """MNIST's original files in the folder `config.path`."""
    _refuse_image_size(config)
    path = _path(config, "the folder with train-images-idx3-ubyte and so on", "folder")
    pairs = readers.find_idx(path)

    def read() -> dict[str, Dataset]:
        return _numbered({split: readers.read_idx(*pair) for split, pair in pairs.items()}, path)

    return _cached(config, path, [file for pair in pairs.values() for file in pair], read)


def cifar(config: ConfigDict) -> dict[str, Dataset]:
    """CIFAR-10's original files, python or binary version, unpacked or in their archive."""
    _refuse_image_size(config)
    path = _path(
        config,
        "the folder cifar-10-batches-py or cifar-10-batches-bin, its parent, or the .tar.gz archive",
    )
    files = cifar_files.find_cifar(path)

    def read() -> dict[str, Dataset]:
        splits, class_names = cifar_files.read_cifar(files)
        return _datasets(splits, class_names)

    return _cached(config, path, files, read)


def csv(config: ConfigDict) -> dict[str, Dataset]:
    """CSV files with a `label` column and a column for each pixel of square grayscale images, a file a split."""
    _refuse_image_size(config)
    path = _path(config, "a folder with one *train*.csv and one *test*.csv, or one CSV file")
    files = readers.find_csv(path)

    def read() -> dict[str, Dataset]:
        return _numbered({split: readers.read_csv(file) for split, file in files.items()}, path)

    return _cached(config, path, files.values(), read)


def folder(config: ConfigDict) -> dict[str, Dataset]:
    """Image files in a folder a class: PATH/train/CLASS/*, PATH/val/CLASS/* and PATH/test/CLASS/*, or PATH/CLASS/*."""
    if config.image_size < 0:
        raise ConfigError(
            f"config.data.image_size is {config.image_size}: give 0 or the side in pixels."
        )
    path = _path(config, "a folder with a folder of images for each class", "folder")
    files = image_folder.find_images(path)
    every = [
        file for classes in files.values() for of_class in classes.values() for file in of_class
    ]

    def read() -> dict[str, Dataset]:
        return image_folder.read_folder(files, image_size=config.image_size)

    return _cached(config, path, every, read)


def npz(config: ConfigDict) -> dict[str, Dataset]:
    """One .npz file of arrays."""
    _refuse_image_size(config)
    path = _path(config, "an .npz file", "file")
    splits, class_names = readers.read_npz(path)
    return _numbered(splits, path) if class_names is None else _datasets(splits, class_names)


SOURCES: Mapping[str, Callable[[ConfigDict], dict[str, Dataset]]] = {
    "digits": digits,
    "tfds": tfds,
    "idx": idx,
    "cifar": cifar,
    "csv": csv,
    "folder": folder,
    "npz": npz,
}


def _path(config: ConfigDict, what: str, kind: str = "") -> Path:
    """`config.path` as it should be there: a "file", a "folder", or either."""
    if not config.path:
        raise ConfigError(
            f"config.data.source={config.source} needs {what}: --config.data.path=PATH names it."
        )
    path = Path(os.path.expanduser(config.path)).resolve()
    if not os.path.exists(path):  # a name too long for the file system does not exist, for it
        raise DataError(f"There is no {path}. --config.data.path should name {what}.")
    kinds = {"folder": path.is_dir(), "file": path.is_file()}
    if not kinds.get(kind, any(kinds.values())):
        raise DataError(
            f"{path} is not a {kind or 'file or folder'}. --config.data.path should name {what}."
        )
    return path


def _cached(
    config: ConfigDict, path: Path, files: Iterable[Path], read: Callable[[], dict[str, Dataset]]
) -> dict[str, Dataset]:
    key = config.source, config.name, str(path), config.image_size
    return cached(config.cache, key, files, read, keep=config.get("keep", True))


def _refuse_image_size(config: ConfigDict) -> None:
    if config.image_size:
        raise ConfigError(
            f"config.data.image_size is for config.data.source=folder only, not {config.source}. "
            f"Put resize({config.image_size}) into config.data.transform instead."
        )


def _datasets(splits: dict[str, readers.Split], class_names: tuple[str, ...]) -> dict[str, Dataset]:
    return {
        split: Dataset(images, labels, class_names) for split, (images, labels) in splits.items()
    }


def _numbered(splits: dict[str, readers.Split], path: Path) -> dict[str, Dataset]:
    """Data sets whose classes have no names but the numbers from 0 to the training set's highest label."""
    labels = splits["train"][1]
    if labels.dtype.kind not in "iu" or labels.ndim != 1 or labels.size == 0:
        return _datasets(splits, ())  # checks.py says what is wrong with such labels
    classes, present = max(0, int(labels.max()) + 1), len(np.unique(labels))
    # A wrong label would pass for a class of its own; single classes without an example are let through.
    if classes > 2 * present:
        where = np.flatnonzero(labels == labels.max())[:5]
        raise DataError(
            f"{path}: a label out of range, {classes - 1}, is in the training set (examples "
            f"{', '.join(map(str, where))}, counted from 0), which has {present} different labels in all. Number the "
            "classes from 0 without gaps; in an .npz file, class_names can name classes that have no example."
        )
    return _datasets(splits, tuple(str(number) for number in range(classes)))
