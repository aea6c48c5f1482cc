"""Decoded images kept on disk: one .npz a source, found by the state of its files and verified by checksum."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from imgcls_jax.data.dataset import Dataset
from imgcls_jax.errors import DataError

log = logging.getLogger(__name__)

VERSION = 1  # raised when a reader comes to give other images for the same files


def cached(
    folder: str, key: Sequence, files: Iterable[Path], read: Callable[[], dict[str, Dataset]]
) -> dict[str, Dataset]:
    """`read()`, or what it gave before for the same `key` and files of the same path, size and modification time.

    A cached file that is damaged gives a warning and is read anew; a `folder` that cannot be written gives a warning.
    With `folder` "" nothing is kept.
    """
    if not folder:
        return read()
    path = Path(folder).expanduser() / f"{key[0]}-{_digest(key, files)[:32]}.npz"
    if path.exists():
        try:
            return _read(path)
        except Exception as error:  # a damaged file can raise nearly anything
            log.warning("The cached data %s is damaged (%s); it is decoded anew.", path, error)
    datasets = read()
    try:
        _write(path, datasets)
    except OSError as error:
        log.warning(
            "The decoded data cannot be kept in %s (%s), so the next run decodes it again. "
            "--config.data.cache=FOLDER keeps it elsewhere, an empty value nowhere.",
            path.parent,
            error,
        )
    return datasets


def _digest(key: Sequence, files: Iterable[Path]) -> str:
    try:
        states = [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    except OSError as error:  # a link to nowhere, for example
        raise DataError(f"{error.filename} cannot be read ({error.strerror}). Repair or remove it.") from error
    return hashlib.sha256(json.dumps([VERSION, list(key), states]).encode()).hexdigest()


def _read(path: Path) -> dict[str, Dataset]:
    datasets = {}
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
        class_names = tuple(str(name) for name in arrays["class_names"])
        for split in arrays["splits"]:
            dataset = Dataset(arrays[f"{split}_images"], arrays[f"{split}_labels"], class_names)
            if dataset.fingerprint != arrays[f"{split}_fingerprint"]:
                raise ValueError(f"the checksum of its {split} split does not match")
            datasets[str(split)] = dataset
    return datasets


def _write(path: Path, datasets: dict[str, Dataset]) -> None:
    arrays = {"splits": np.array(list(datasets)), "class_names": np.array(datasets["train"].class_names)}
    for split, dataset in datasets.items():
        arrays[f"{split}_images"] = dataset.images
        arrays[f"{split}_labels"] = dataset.labels
        arrays[f"{split}_fingerprint"] = np.array(dataset.fingerprint)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial")  # runs that start together may write the same key
    try:
        with open(partial, "wb") as file:
            np.savez(file, **arrays)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
