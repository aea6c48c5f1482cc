"""CIFAR-10's original files: the python and the binary version, in a folder or in their archive."""

import dataclasses
import gzip
import io
import math
import tarfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from imgcls_jax.data.dataset import Arrays, ArraysBySplit
from imgcls_jax.errors import DataError, printable
from imgcls_jax.pickles import Damaged, Machine, Refused, expect

SIDE = 32
PIXELS = 3 * SIDE * SIDE  # the values of an image: one channel after the other, each by rows
MAX_FILE = 2**26  # bytes of a file; CIFAR-10's have 31 million
MAX_DIMENSIONS = 4  # of an array in a file
MAX_CLASSES = 1000
MAX_CLASS_NAME = 200  # characters
MAX_LABEL = 2**31 - 1
FOLDERS = ("cifar-10-batches-py", "cifar-10-batches-bin")
ARCHIVES = ("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz")


def find_cifar(path: Path) -> list[Path]:
    """Returns the files to read: an archive, or the batches and class names in a folder.

    path: an archive, a folder with one or with the batches, or a folder with the folder of the
    batches, which has its usual name. Raises DataError if there are none, or not all.
    """
    if path.is_file():
        return [path]
    for folder in [path, *(path / name for name in FOLDERS)]:
        for version in VERSIONS:
            present = [name for name in version.files if (folder / name).is_file()]
            missing = [name for name in version.files if name not in present]
            if not missing:
                return [folder / name for name in version.files]
            if len(present) > 1:
                raise DataError(
                    f"{folder} lacks {', '.join(sorted(missing))} of CIFAR-10. Unpack the archive "
                    "again, or name the archive itself by --config.data.path."
                )
    for name in ARCHIVES:
        if (path / name).is_file():
            return [path / name]
    raise DataError(
        f"{path} holds none of CIFAR-10's files. --config.data.path should name a folder "
        f"{' or '.join(FOLDERS)}, the folder that holds it, or an archive {' or '.join(ARCHIVES)}."
    )


def read_cifar(files: list[Path]) -> tuple[ArraysBySplit, tuple[str, ...]]:
    """Reads the files that `find_cifar` returned.

    Returns the splits, images uint8 [N, 32, 32, 3] and labels int32 [N], and the class names.
    Raises DataError for files that are damaged or missing in an archive.
    """
    if len(files) == 1:
        origin = files[0]
        contents = _archive_members(origin)
    else:
        origin = files[0].parent
        contents = {file.name: file.read_bytes() for file in files}
    for version in VERSIONS:
        missing = [name for name in version.files if name not in contents]
        if not missing:
            return _read_version(version, contents, origin)
        if len(missing) < len(version.files):
            raise DataError(
                f"{origin} lacks {', '.join(missing)} of CIFAR-10. Download the archive again."
            )
    raise DataError(
        f"{origin} holds no batch of CIFAR-10. Accepted are the archives {' and '.join(ARCHIVES)}."
    )


def _read_version(
    version: "_Version", contents: Mapping[str, bytes], origin: Path
) -> tuple[ArraysBySplit, tuple[str, ...]]:
    def where(name: str) -> str:
        return f"{name} in {origin}"

    class_names = version.read_names(contents[version.names_file], where(version.names_file))
    batches = {}
    for name in [*version.train, *version.test]:
        batches[name] = version.read_batch(contents[name], where(name))
    counts = {name: len(labels) for name, (_, labels) in batches.items()}
    if len(set(counts.values())) > 1:
        counted = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        raise DataError(
            f"{origin}: all batches of CIFAR-10 hold the same number of images, but here it is "
            f"{counted}. Download the archive again."
        )
    splits = {
        "train": _join([batches[name] for name in version.train]),
        "test": _join([batches[name] for name in version.test]),
    }
    return splits, class_names


def _join(batches: list[Arrays]) -> Arrays:
    """Joins batches of rows uint8 [n, 3072]: images uint8 [N, 32, 32, 3] and labels int32 [N]."""
    rows = np.concatenate([images for images, _ in batches])
    images = rows.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    labels = np.concatenate([labels for _, labels in batches])
    return np.ascontiguousarray(images), labels.astype(np.int32)


def _archive_members(path: Path) -> dict[str, bytes]:
    """Returns the content of CIFAR-10's files in an archive, by their names without folder.

    Nothing is unpacked to disk. tarfile would read a header of any size into memory, so the members
    are walked here.
    """
    accepted = set().union(*(version.files for version in VERSIONS))
    contents = {}
    try:
        with _open_archive(path) as archive:
            while any(header := archive.read(tarfile.BLOCKSIZE)):
                member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
                name = Path(member.name).name
                if member.isdir() or member.issym() or member.islnk() or member.isdev():
                    continue  # they have no content
                if not 0 <= member.size <= MAX_FILE:
                    raise tarfile.TarError(
                        f"{printable(name)} has {member.size:,} bytes, and CIFAR-10's files have "
                        "31 million"
                    )
                padding = -member.size % tarfile.BLOCKSIZE
                end = archive.tell() + member.size + padding
                if member.isfile() and name in accepted:
                    contents[name] = archive.read(member.size)
                    if len(contents[name]) < member.size:
                        raise EOFError(f"{name} is not complete")
                archive.seek(end)
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{path} cannot be read as an archive ({reason}). It is damaged or only part of it is "
            f"there: download it again, as {' or '.join(ARCHIVES)}."
        ) from error
    return contents


def _open_archive(path: Path) -> BinaryIO:
    """Opens an archive that is compressed by gzip, or not at all."""
    with open(path, "rb") as file:
        start = file.read(2)
    if start == b"\x1f\x8b":
        return gzip.open(path)
    return open(path, "rb")


class _PickledArray:
    """An array in a pickle, or the type of one, which has no content."""

    def __init__(self, dtype: type | None = None):
        self.dtype = dtype
        self.shape: tuple[int, ...] = ()
        self.order = "C"
        self.content: bytes | None = None

    def array(self) -> np.ndarray | None:
        """Returns the array if it is of bytes and as large as it says, else None."""
        if self.content is None or self.dtype is not np.uint8:
            return None
        if math.prod(self.shape) != len(self.content):
            return None
        return np.frombuffer(self.content, np.uint8).reshape(self.shape, order=self.order)


class _Batch(Machine):
    """Reads pickles of plain values and NumPy arrays of bytes."""

    kind = "file of CIFAR-10"
    max_text = MAX_FILE
    functions = (
        "numpy.core.multiarray._reconstruct",
        "numpy._core.multiarray._reconstruct",
        "numpy.ndarray",
        "numpy.dtype",
        "_codecs.encode",  # Python 3 writes bytes so in old versions of the format
    )

    def call(self, function, arguments):
        if function == "_codecs.encode":
            return self._bytes(expect(arguments[0], str))
        if function == "numpy.dtype":
            is_uint8 = arguments[:1] in (("u1",), (b"u1",))
            return _PickledArray(np.uint8 if is_uint8 else np.void)
        return _PickledArray()

    def build(self, value, state):
        """Sets the state of an array: version, shape, dtype, Fortran order, content.

        The state of a dtype is not needed.
        """
        if expect(value, _PickledArray).dtype is not None:
            return
        _, shape, dtype, fortran_order, content = expect(state, tuple)
        if len(expect(shape, tuple)) > MAX_DIMENSIONS:
            raise Damaged(f"an array has {len(shape)} dimensions")
        for size in shape:
            if type(size) is not int or not 0 <= size <= MAX_FILE:
                raise Damaged(f"the sizes of an array are no numbers from 0 to {MAX_FILE:,}")
        if isinstance(content, str):
            content = self._bytes(content)
        value.shape = shape
        value.dtype = expect(dtype, _PickledArray).dtype
        value.order = "F" if fortran_order is True else "C"
        value.content = expect(content, bytes)

    def _bytes(self, text: str) -> bytes:
        self.charge(len(text))
        return text.encode("latin-1")


def _unpickle(content: bytes, where: str) -> dict:
    """Returns the dict in a pickle, its keys as text and its arrays as `_PickledArray`."""
    try:
        pickled = expect(_Batch().parse(io.BytesIO(content)), dict)
        values = {}
        for key, value in pickled.items():
            if isinstance(key, bytes):
                key = key.decode()
            values[key] = value
        return values
    except (Refused, ValueError) as error:
        raise DataError(
            f"{where} is not a file of CIFAR-10's python version ({error}). Download the archive "
            "again from its official page; a file from elsewhere should not be opened."
        ) from error


def _read_python_batch(content: bytes, where: str) -> Arrays:
    """Returns rows uint8 [N, 3072] and labels int64 [N] of a batch of the python version."""
    values = _unpickle(content, where)
    images = None
    if isinstance(values.get("data"), _PickledArray):
        images = values["data"].array()
    labels = []
    if _are_labels(values.get("labels")):
        labels = values["labels"]
    if images is None or images.shape != (len(labels), PIXELS):
        keys = ", ".join(printable(key)[:40] for key in list(values)[:8])
        raise DataError(
            f"{where} should hold 'data', uint8 of N x {PIXELS}, and 'labels', N class numbers; it "
            f"holds {keys or 'nothing'} with {len(labels)} labels. Download the archive again."
        )
    return images, np.array(labels)


def _are_labels(value: object) -> bool:
    if not isinstance(value, list):
        return False
    return all(type(label) is int and 0 <= label <= MAX_LABEL for label in value)


def _read_python_names(content: bytes, where: str) -> tuple[str, ...]:
    names = _unpickle(content, where).get("label_names")
    if not isinstance(names, list) or not 0 < len(names) <= MAX_CLASSES:
        raise DataError(f"{where} has no list 'label_names'. Download the archive again.")
    texts = []
    for name in names:
        if not isinstance(name, str | bytes) or len(name) > MAX_CLASS_NAME:
            raise DataError(
                f"{where}: 'label_names' holds something that is no name. Download the archive "
                "again."
            )
        if isinstance(name, bytes):
            name = name.decode("latin-1")
        texts.append(name)
    return tuple(texts)


def _read_binary_batch(content: bytes, where: str) -> Arrays:
    """Returns rows uint8 [N, 3072] and labels uint8 [N] of a batch of the binary version."""
    if not content or len(content) % (1 + PIXELS):
        raise DataError(
            f"{where} is truncated: its {len(content)} bytes are no multiple of the {1 + PIXELS} "
            "of an image with its label. Download the archive again."
        )
    rows = np.frombuffer(content, np.uint8).reshape(-1, 1 + PIXELS)
    return rows[:, 1:], rows[:, 0]


def _read_binary_names(content: bytes, where: str) -> tuple[str, ...]:
    names = tuple(content.decode("utf-8", "replace").split())
    if not names:
        raise DataError(f"{where} names no class. Download the archive again.")
    return names


@dataclasses.dataclass(frozen=True)
class _Version:
    """One of the two versions of CIFAR-10: its files, and how they are read."""

    train: tuple[str, ...]
    test: tuple[str, ...]
    names_file: str
    read_batch: Callable[[bytes, str], Arrays]
    read_names: Callable[[bytes, str], tuple[str, ...]]

    @property
    def files(self) -> list[str]:
        return [*self.train, *self.test, self.names_file]


VERSIONS = (
    _Version(
        train=tuple(f"data_batch_{number}" for number in range(1, 6)),
        test=("test_batch",),
        names_file="batches.meta",
        read_batch=_read_python_batch,
        read_names=_read_python_names,
    ),
    _Version(
        train=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
        test=("test_batch.bin",),
        names_file="batches.meta.txt",
        read_batch=_read_binary_batch,
        read_names=_read_binary_names,
    ),
)
