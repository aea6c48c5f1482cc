"""Decoded images kept on disk: one .npz a source, found by the state of its files and verified by checksum."""

import hashlib
import itertools
import json
import logging
import math
import os
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from imgcls_jax import files
from imgcls_jax.data.dataset import Dataset
from imgcls_jax.data.lazy_images import LazyImages, parts
from imgcls_jax.errors import DataError
from imgcls_jax.foreign import check_regular

log = logging.getLogger(__name__)

VERSION = 2  # raised when a reader comes to give other images for the same files


def cached(
    folder: str,
    key: Sequence,
    sources: Iterable[Path],
    read: Callable[[], dict[str, Dataset]],
    *,
    keep: bool = True,
) -> dict[str, Dataset]:
    """`read()`, or what it gave before for the same `key` and sources of the same path, size and modification time.

    What is kept is given as LazyImages. A cached file that is damaged gives a warning and is read anew; a `folder` that
    cannot be written gives a warning. With `folder` "" nothing is kept; without `keep` nothing that is not there yet.
    Raises DataError where one of the sources is no file, but a pipe or a device.
    """
    sources = list(sources)
    check_sources(sources)
    if not folder:
        return read()
    path = Path(os.path.expanduser(folder)) / f"{key[0]}-{_digest(key, sources)[:32]}.npz"
    files.sweep(path.parent)
    if path.is_file():
        try:
            return _read(path)
        except Exception as error:  # a damaged file can raise nearly anything
            log.warning("The cached data %s is damaged (%s); it is decoded anew.", path, error)
    datasets = read()
    if not keep:
        return datasets
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
    return _read(path)


def check_sources(sources: Iterable[Path]) -> None:
    """Raises DataError where one of them is no file, but a pipe, which would be waited for, or a device."""
    for file in sources:
        try:
            check_regular(file)
        except OSError as error:  # a link to nowhere, for example
            reason = error.strerror or error
            raise DataError(f"{file} cannot be read ({reason}). Repair or remove it.") from error


def _digest(key: Sequence, sources: Iterable[Path]) -> str:
    states = [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in sources]
    return hashlib.sha256(json.dumps([VERSION, list(key), states]).encode()).hexdigest()


def _read(path: Path) -> dict[str, Dataset]:
    """The images stay in the file; all are read once, for their checksum."""
    datasets = {}
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
        class_names = tuple(str(name) for name in arrays["class_names"])
        for split in arrays["splits"]:
            images = _in_place(path, arrays.zip.getinfo(f"{split}_images.npy"))
            dataset = Dataset(images, arrays[f"{split}_labels"], class_names)
            if dataset.fingerprint != arrays[f"{split}_fingerprint"]:
                raise ValueError(f"the checksum of its {split} split does not match")
            datasets[str(split)] = dataset
    return datasets


def _in_place(path: Path, member: zipfile.ZipInfo) -> LazyImages:
    """The images of a member of the .npz file `path`, which lie there uncompressed, one after the other."""
    with open(path, "rb") as file:
        file.seek(
            member.header_offset + 26
        )  # where the member's own header says how long its two last fields are
        file.seek(sum(struct.unpack("<HH", file.read(4))), os.SEEK_CUR)
        version = np.lib.format.read_magic(file)
        shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
        start = file.tell()
    if (
        member.compress_type != zipfile.ZIP_STORED
        or version != (1, 0)
        or by_columns
        or dtype != np.uint8
    ):
        raise ValueError("its images are not as they were written")
    count, *image = shape
    size = math.prod(image)

    def read(numbers: np.ndarray) -> np.ndarray:
        images = np.empty((len(numbers), *image), np.uint8)
        breaks = [
            0,
            *(np.flatnonzero(np.diff(numbers) != 1) + 1),
            len(numbers),
        ]  # between them are neighbours
        try:
            with open(path, "rb") as file:
                for first, end in itertools.pairwise(breaks):
                    file.seek(start + int(numbers[first]) * size if end else start)
                    if file.readinto(images[first:end]) != (end - first) * size:
                        raise OSError("it has become shorter")
        except OSError as error:
            raise DataError(
                f"The cached data {path} can no longer be read ({error}). The same command decodes it anew."
            ) from error
        return images

    return LazyImages(read, tuple(image), np.arange(count))


def _write(path: Path, datasets: dict[str, Dataset]) -> None:
    """An .npz file as numpy.savez has it, without all the images in memory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {
        "splits": np.array(list(datasets)),
        "class_names": np.array(datasets["train"].class_names),
    }
    with files.replacing(path) as partial, zipfile.ZipFile(partial, "w") as archive:
        for split, dataset in datasets.items():
            with _member(archive, f"{split}_images") as file:
                form = {"descr": "|u1", "fortran_order": False, "shape": dataset.images.shape}
                np.lib.format.write_array_header_1_0(file, form)
                images = parts(dataset.images, f"decoding {split}")
                arrays[f"{split}_fingerprint"] = np.array(
                    dataset.fingerprint_of(_copied(images, file))
                )
            arrays[f"{split}_labels"] = dataset.labels
        for name, array in arrays.items():
            with _member(archive, name) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def _member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    return archive.open(f"{name}.npy", "w", force_zip64=True)


def _copied(parts: Iterable[np.ndarray], file: IO[bytes]) -> Iterator[np.ndarray]:
    for part in parts:
        file.write(np.ascontiguousarray(part))
        yield part
