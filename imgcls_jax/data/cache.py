"""Decoded images on disk: an .npz file for each state of a source, verified by its checksum."""

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
from imgcls_jax.data.dataset import Dataset, Datasets
from imgcls_jax.data.lazy_images import LazyImages, chunks
from imgcls_jax.errors import DataError
from imgcls_jax.foreign import check_regular

log = logging.getLogger(__name__)

VERSION = 2  # raised when a reader returns other images for the same files
NAME_LENGTHS_OFFSET = 26  # in a member's local header of a zip file
NAME_LENGTHS = struct.Struct("<HH")  # of the member's name and extra field, which follow


def cached(
    folder: str,
    key: Sequence,
    sources: Iterable[Path],
    read: Callable[[], Datasets],
    *,
    keep: bool = True,
) -> Datasets:
    """Returns `read()`, or what it returned before for the same key and state of the sources.

    The state of a source is its path, size and modification time. Cached images are LazyImages. A
    damaged cache file gives a warning and is decoded again; a folder that cannot be written gives
    a warning.

    folder: "" for no cache. key: begins with a name for the cache file. keep: whether to write
    what is not cached yet. Raises DataError if a source is no file, but a pipe or a device.
    """
    sources = list(sources)
    check_sources(sources)
    if not folder:
        return read()
    path = Path(os.path.expanduser(folder)) / f"{key[0]}-{_digest(key, sources)[:32]}.npz"
    if keep:
        files.sweep(path.parent)
    if path.is_file():
        try:
            return _read(path)
        except Exception as error:  # a damaged file can raise nearly anything
            log.warning("The cached data %s is damaged (%s); it is decoded again.", path, error)
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
    """Raises DataError if a source is no file, but a device or a pipe, which could wait forever."""
    for file in sources:
        try:
            check_regular(file)
        except OSError as error:  # a link to nowhere, for example
            reason = error.strerror or error
            raise DataError(f"{file} cannot be read ({reason}). Repair or remove it.") from error


def _digest(key: Sequence, sources: Iterable[Path]) -> str:
    states = []
    for file in sources:
        status = file.stat()
        states.append([str(file), status.st_size, status.st_mtime_ns])
    return hashlib.sha256(json.dumps([VERSION, list(key), states]).encode()).hexdigest()


def _read(path: Path) -> Datasets:
    """Reads a cache file. The images stay in it; all are read once, for their checksum."""
    datasets = {}
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
        class_names = tuple(str(name) for name in arrays["class_names"])
        for split in arrays["splits"]:
            images = _lazy_images(path, arrays.zip.getinfo(f"{split}_images.npy"))
            dataset = Dataset(images, arrays[f"{split}_labels"], class_names)
            if dataset.fingerprint != arrays[f"{split}_fingerprint"]:
                raise ValueError(f"the checksum of its {split} split does not match")
            datasets[str(split)] = dataset
    return datasets


def _lazy_images(path: Path, member: zipfile.ZipInfo) -> LazyImages:
    """Returns the images of an uncompressed member of the .npz file `path`."""
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError("its images are compressed")
    with open(path, "rb") as file:
        # zipfile does not tell where the content of a member begins.
        file.seek(member.header_offset + NAME_LENGTHS_OFFSET)
        name_length, extra_length = NAME_LENGTHS.unpack(file.read(NAME_LENGTHS.size))
        file.seek(name_length + extra_length, os.SEEK_CUR)
        version = np.lib.format.read_magic(file)
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
        offset = file.tell()
    if version != (1, 0) or fortran_order or dtype != np.uint8:
        raise ValueError("its images have another format")
    count, *image_shape = shape

    def read(indices: np.ndarray) -> np.ndarray:
        images = np.empty((len(indices), *image_shape), np.uint8)
        try:
            _read_rows(path, offset, indices, out=images)
        except OSError as error:
            raise DataError(
                f"The cached data {path} can no longer be read ({error}). The same command decodes "
                "it again."
            ) from error
        return images

    return LazyImages(read, tuple(image_shape), np.arange(count))


def _read_rows(path: Path, offset: int, indices: np.ndarray, *, out: np.ndarray) -> None:
    """Reads images at `indices` of an array at `offset` in a file into out, uint8 [n, H, W, C].

    This is not a memory map, since a file that becomes shorter, or a disk that fails, would kill
    the process instead of raising OSError. Images that follow each other are read at once.
    """
    image_bytes = math.prod(out.shape[1:])
    breaks = np.flatnonzero(np.diff(indices) != 1) + 1
    bounds = sorted({0, *breaks.tolist(), len(indices)})
    with open(path, "rb") as file:
        for start, stop in itertools.pairwise(bounds):
            file.seek(offset + int(indices[start]) * image_bytes)
            if file.readinto(out[start:stop]) != (stop - start) * image_bytes:
                raise OSError("it has become shorter")


def _write(path: Path, datasets: Datasets) -> None:
    """Writes an .npz file as numpy.savez does, without having all the images in memory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {
        "splits": np.array(list(datasets)),
        "class_names": np.array(datasets["train"].class_names),
    }
    with files.replacing(path) as partial, zipfile.ZipFile(partial, "w") as archive:
        for split, dataset in datasets.items():
            fingerprint = _write_images(archive, split, dataset)
            arrays[f"{split}_fingerprint"] = np.array(fingerprint)
            arrays[f"{split}_labels"] = dataset.labels
        for name, array in arrays.items():
            with _open_member(archive, name) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def _write_images(archive: zipfile.ZipFile, split: str, dataset: Dataset) -> str:
    """Writes the images of a split, and returns the split's fingerprint."""
    header = {"descr": "|u1", "fortran_order": False, "shape": dataset.images.shape}
    with _open_member(archive, f"{split}_images") as file:
        np.lib.format.write_array_header_1_0(file, header)

        def written_chunks() -> Iterator[np.ndarray]:
            for chunk in chunks(dataset.images, progress=f"decoding {split}"):
                file.write(np.ascontiguousarray(chunk))
                yield chunk

        return dataset.fingerprint_of(written_chunks())


def _open_member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    return archive.open(f"{name}.npy", "w", force_zip64=True)
