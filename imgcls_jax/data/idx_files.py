"""MNIST's idx files: finds and reads them, or refuses them by name."""

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from imgcls_jax.data.dataset import Arrays, log_unused
from imgcls_jax.errors import DataError, shape_text

PREFIXES = {"train": "train", "test": "t10k"}
DIMENSIONS = {"images": 3, "labels": 1}
MAX_DEFLATE_RATIO = 1032  # bytes that one byte compressed by deflate can stand for

Pairs = dict[str, tuple[Path, Path]]  # the files with images and labels, by split


def find_idx(folder: Path) -> Pairs:
    """Returns the files with images and labels of each split. There may be no test set.

    Other idx files are logged as unused. Raises DataError if one of a pair of files is missing.
    """
    pairs = {}
    for split, prefix in PREFIXES.items():
        images = _find_file(folder, prefix, "images")
        labels = _find_file(folder, prefix, "labels")
        if images and labels:
            pairs[split] = (images, labels)
        elif images or labels or split == "train":
            missing = []
            if not images:
                missing.append(f"{prefix}-images-idx3-ubyte")
            if not labels:
                missing.append(f"{prefix}-labels-idx1-ubyte")
            raise DataError(
                f"{folder} has no {' and no '.join(missing)} (with or without .gz). Copy it there, "
                "or name another folder by --config.data.path."
            )
    _log_unused_files(folder, pairs)
    return pairs


def _find_file(folder: Path, prefix: str, kind: str) -> Path | None:
    for separator in "-.":
        for suffix in ("", ".gz"):
            name = f"{prefix}-{kind}{separator}idx{DIMENSIONS[kind]}-ubyte{suffix}"
            if (folder / name).is_file():
                return folder / name
    return None


def _log_unused_files(folder: Path, pairs: Pairs) -> None:
    used = set()
    for images, labels in pairs.values():
        used |= {images.name.removesuffix(".gz"), labels.name.removesuffix(".gz")}
    unused = []
    for name in sorted(file.name for file in folder.iterdir()):
        if "ubyte" in name and name.removesuffix(".gz") not in used:
            unused.append(name)
    log_unused(folder, unused, "the files of train and t10k are")


def read_idx(images_path: Path, labels_path: Path) -> Arrays:
    """Reads a pair of idx files: images uint8 [N, H, W, 1] and labels int32 [N].

    Raises DataError for a file that is damaged or of another kind.
    """
    images = _read_file(images_path, "images")
    labels = _read_file(labels_path, "labels")
    if len(images) != len(labels):
        raise DataError(
            f"{images_path} holds {len(images)} images, {labels_path} {len(labels)} labels. They "
            "are not of the same set: copy both from the same place."
        )
    return images[..., None], labels.astype(np.int32)


def _read_file(path: Path, kind: str) -> np.ndarray:
    """Reads one idx file: uint8 [N, H, W] for images, [N] for labels."""
    open_file = open
    ratio = 1
    if path.suffix == ".gz":
        open_file = gzip.open
        ratio = MAX_DEFLATE_RATIO
    try:
        max_bytes = ratio * os.path.getsize(path)
        with open_file(path, "rb") as file:
            shape = _read_header(file, path, kind)
            size = math.prod(shape)
            # A file cannot make this ask for more memory than its own size allows, and what
            # follows the array, which may be much more, is not read.
            content = file.read(min(size, max_bytes) + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}). Copy or download it again.") from error
    if len(content) != size:
        header_bytes = 4 + 4 * len(shape)
        if len(content) < size:
            state = f"truncated: it holds {header_bytes + len(content)}"
        else:
            state = f"too long: it holds more than {header_bytes + size}"
        raise DataError(
            f"{path} is {state} bytes, where its header announces {header_bytes + size} "
            f"({shape_text(shape)}). Copy or download it again."
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


def _read_header(file: IO[bytes], path: Path, kind: str) -> list[int]:
    """Reads the header of an idx file and returns the array's shape."""
    dimensions = DIMENSIONS[kind]
    magic = file.read(4)
    expected = bytes((0, 0, 8, dimensions))  # 8 stands for uint8
    if magic != expected:
        raise DataError(
            f"{path} is no idx file of {kind}: it starts with the bytes {magic.hex(' ')} where "
            f"{expected.hex(' ')} is expected. Copy or download it again; a file ending in .gz "
            "must be compressed, any other must not."
        )
    sizes = file.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise DataError(
            f"{path} ends inside its header, after {4 + len(sizes)} bytes. Copy or download it "
            "again."
        )
    return np.frombuffer(sizes, ">u4").tolist()
