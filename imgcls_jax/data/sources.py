"""The data sources: functions that read what `config.data` names.

Each returns {"train": Dataset}, with "validation" and "test" if the source has such sets. `keep`
says whether decoded data is kept in the cache, and a TFDS data set prepared if it is missing.
"""

import dataclasses
import os
import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from imgcls_jax.data import cifar as cifar_files
from imgcls_jax.data import csv_files, idx_files, npz_files, tfds_reader
from imgcls_jax.data import folder as image_folder
from imgcls_jax.data.cache import cached
from imgcls_jax.data.dataset import ArraysBySplit, Dataset, Datasets
from imgcls_jax.errors import ConfigError, DataError, listed, printable


def digits(config: ConfigDict, *, keep: bool = True) -> Datasets:
    """scikit-learn's digits: 1,797 images of 8x8x1, their values 0 to 16 scaled to 0 to 255."""
    _check_no_image_size(config)
    from sklearn.datasets import load_digits

    data = load_digits()
    images = np.round(data.images * (255 / 16)).astype(np.uint8)[..., None]
    class_names = tuple(str(name) for name in data.target_names)
    return {"train": Dataset(images, data.target.astype(np.int32), class_names)}


def tfds(config: ConfigDict, *, keep: bool = True) -> Datasets:
    """A data set of TensorFlow Datasets, from its data folder.

    If it is not there, TFDS prepares it, which needs a network.
    """
    _check_no_image_size(config)
    folder = _tfds_folder(config)
    tfds_reader.check_name(config.name)
    directory = tfds_reader.find_prepared(config.name, folder)
    if directory is None and not keep:
        raise DataError(
            f"The TFDS data set {config.name!r} of this run is not prepared in {folder}; only "
            "training prepares it. $TFDS_DATA_DIR names the folder that has it."
        )
    if directory is None:
        directory = tfds_reader.prepare(config.name, folder)
    tfds_reader.log_unused_splits(directory)
    files = sorted(path for path in directory.iterdir() if not path.is_dir())

    def read() -> Datasets:
        return tfds_reader.read_prepared(directory)

    return _cached(config, directory, files, read, keep=keep)


def _tfds_folder(config: ConfigDict) -> Path:
    if config.path:
        return _path(config, "the TFDS data folder", kind="folder")
    folder = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return Path(os.path.expanduser(folder)).resolve()


def idx(config: ConfigDict, *, keep: bool = True) -> Datasets:
    """MNIST's original files in the folder `config.path`."""
    _check_no_image_size(config)
    path = _path(config, "the folder with train-images-idx3-ubyte and so on", kind="folder")
    pairs = idx_files.find_idx(path)
    files = []
    for images, labels in pairs.values():
        files += [images, labels]

    def read() -> Datasets:
        splits = {}
        for split, (images, labels) in pairs.items():
            splits[split] = idx_files.read_idx(images, labels)
        return _with_numbers_as_names(splits, path)

    return _cached(config, path, files, read, keep=keep)


def cifar(config: ConfigDict, *, keep: bool = True) -> Datasets:
    """CIFAR-10's original files, python or binary version, unpacked or in their archive."""
    _check_no_image_size(config)
    path = _path(
        config,
        "the folder cifar-10-batches-py or cifar-10-batches-bin, its parent, or the .tar.gz "
        "archive",
    )
    files = cifar_files.find_cifar(path)

    def read() -> Datasets:
        splits, class_names = cifar_files.read_cifar(files)
        return _datasets(splits, class_names)

    return _cached(config, path, files, read, keep=keep)


def csv(config: ConfigDict, *, keep: bool = True) -> Datasets:
    """CSV files with a `label` column and a column for each pixel of square grayscale images."""
    _check_no_image_size(config)
    path = _path(config, "a folder with one *train*.csv and one *test*.csv, or one CSV file")
    files = csv_files.find_csv(path)
    train_warnings: tuple[str, ...] = ()
    if "test" in files and csv_files.is_unlabelled(files["test"]):
        name = printable(files.pop("test").name)
        train_warnings = (
            f"{name} has no labels, so the test set is held out of the training images. "
            f"`imgcls predict RUN {shlex.quote(name)}` classifies its images.",
        )

    def read() -> Datasets:
        splits = {split: csv_files.read_csv(file) for split, file in files.items()}
        return _with_numbers_as_names(splits, path)

    datasets = _cached(config, path, files.values(), read, keep=keep)
    for split, file in files.items():
        warnings = csv_files.header_warnings(file)
        if split == "train":
            warnings += train_warnings
        datasets[split] = dataclasses.replace(datasets[split], warnings=warnings)
    return datasets


def folder(config: ConfigDict, *, keep: bool = True) -> Datasets:
    """Image files, with a folder for each class.

    They are PATH/train/CLASS/*, PATH/val/CLASS/* and PATH/test/CLASS/*, or PATH/CLASS/*.
    """
    if config.image_size < 0:
        raise ConfigError(
            f"config.data.image_size is {config.image_size}: give 0 or the side in pixels."
        )
    path = _path(config, "a folder with a folder of images for each class", kind="folder")
    splits = image_folder.find_images(path)
    files = image_folder.image_paths(splits.values())

    def read() -> Datasets:
        if not config.image_size:
            return image_folder.read_folder(splits)
        return image_folder.read_folder(splits, image_size=config.image_size, fit=config.fit)

    datasets = _cached(config, path, files, read, keep=keep)
    for split, classes in splits.items():
        warnings = image_folder.page_warnings(classes)
        datasets[split] = dataclasses.replace(datasets[split], warnings=warnings)
    return datasets


def npz(config: ConfigDict, *, keep: bool = True) -> Datasets:
    """One .npz file of arrays."""
    _check_no_image_size(config)
    path = _path(config, "an .npz file", kind="file")
    splits, class_names = npz_files.read_npz(path)
    if class_names is None:
        return _with_numbers_as_names(splits, path)
    return _datasets(splits, class_names)


SOURCES: Mapping[str, Callable[..., Datasets]] = {
    "digits": digits,
    "tfds": tfds,
    "idx": idx,
    "cifar": cifar,
    "csv": csv,
    "folder": folder,
    "npz": npz,
}


def _path(config: ConfigDict, what: str, *, kind: str = "file or folder") -> Path:
    """Returns `config.path`. Raises an error if it does not exist or is of another kind."""
    if not config.path:
        raise ConfigError(
            f"config.data.source={config.source} needs {what}: --config.data.path=PATH names it."
        )
    path = Path(os.path.expanduser(config.path)).resolve()
    # os.path.exists is also False for a name that is too long, where Path.exists raises an error.
    if not os.path.exists(path):
        raise DataError(f"There is no {path}. --config.data.path should name {what}.")
    if path.is_dir():
        is_accepted = "folder" in kind
    else:
        is_accepted = "file" in kind and path.is_file()
    if not is_accepted:
        raise DataError(f"{path} is not a {kind}. --config.data.path should name {what}.")
    return path


def _cached(
    config: ConfigDict,
    path: Path,
    files: Iterable[Path],
    read: Callable[[], Datasets],
    *,
    keep: bool,
) -> Datasets:
    key = [config.source, config.name, str(path), config.image_size]
    if config.image_size:
        key.append(config.fit)
    return cached(config.cache, key, files, read, keep=keep)


def _check_no_image_size(config: ConfigDict) -> None:
    if config.image_size:
        raise ConfigError(
            "config.data.image_size is for config.data.source=folder only, not "
            f"{config.source}. Put resize({config.image_size}) into config.data.transform instead."
        )


def _datasets(splits: ArraysBySplit, class_names: tuple[str, ...]) -> Datasets:
    datasets = {}
    for split, (images, labels) in splits.items():
        datasets[split] = Dataset(images, labels, class_names)
    return datasets


def _with_numbers_as_names(splits: ArraysBySplit, path: Path) -> Datasets:
    """Returns data sets whose classes are named 0 to the training set's highest label."""
    _, labels = splits["train"]
    if labels.dtype.kind not in "iu" or labels.ndim != 1 or labels.size == 0:
        return _datasets(splits, ())  # checks.py says what is wrong with such labels
    highest = int(labels.max())
    num_classes = max(highest + 1, 0)
    num_present = len(np.unique(labels))
    # A wrong label would pass for a class of its own. A few classes without examples are accepted.
    if num_classes > 2 * num_present:
        examples = np.flatnonzero(labels == highest)
        raise DataError(
            f"{path}: a label out of range, {highest}, is in the training set (examples "
            f"{listed(examples)}, counted from 0), which has {num_present} different labels in "
            "all. Number the classes from 0 without gaps; in an .npz file, class_names can name "
            "classes that have no example."
        )
    return _datasets(splits, tuple(str(number) for number in range(num_classes)))
