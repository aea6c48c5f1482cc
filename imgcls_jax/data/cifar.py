"""CIFAR-10's original files, in the python and the binary version, in a folder or still in their archive."""

import io
import math
import tarfile
import zlib
from pathlib import Path

import numpy as np

from imgcls_jax.data.readers import Split
from imgcls_jax.errors import DataError, printable
from imgcls_jax.pickles import Damaged, Machine, Refused, expect

SIDE = 32
PIXELS = 3 * SIDE * SIDE  # a channel after the other, each by rows
LARGEST = 2**26  # bytes of a file that is taken for one of theirs
MOST_DIMENSIONS = 4  # of an array in one
MOST_NAMES, LONGEST_NAME = 1000, 200  # of classes, and characters
FOLDERS = ("cifar-10-batches-py", "cifar-10-batches-bin")
ARCHIVES = ("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz")
# Of each version: the batches of the splits, and the file of the class names.
PYTHON = (
    {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)},
    "batches.meta",
)
BINARY = (
    {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)},
    "batches.meta.txt",
)


def find_cifar(path: Path) -> list[Path]:
    """The files to read for `path`: an archive, or the batches in a folder or in its folder of the usual name."""
    if path.is_file():
        return [path]
    for folder in (path, *(path / name for name in FOLDERS)):
        for splits, meta in (PYTHON, BINARY):
            names = [*splits["train"], *splits["test"], meta]
            present = [name for name in names if (folder / name).is_file()]
            if len(present) == len(names):
                return [folder / name for name in names]
            if len(present) > 1:
                raise DataError(
                    f"{folder} lacks {', '.join(sorted(set(names) - set(present)))} of CIFAR-10. Unpack the archive "
                    "again, or name the archive itself by --config.data.path."
                )
    for name in ARCHIVES:
        if (path / name).is_file():
            return [path / name]
    raise DataError(
        f"{path} holds none of CIFAR-10's files. --config.data.path should name a folder {' or '.join(FOLDERS)}, the "
        f"folder that holds it, or an archive {' or '.join(ARCHIVES)}."
    )


def read_cifar(files: list[Path]) -> tuple[dict[str, Split], tuple[str, ...]]:
    """The splits, images uint8 [N, 32, 32, 3] and labels int32 [N], and the class names of what `find_cifar` found."""
    if len(files) == 1:
        contents = _archive_members(files[0])
        origin = files[0]
    else:
        contents = {file.name: file.read_bytes() for file in files}
        origin = files[0].parent
    for (splits, meta), read_batch, read_names in (
        (PYTHON, _python_batch, _python_names),
        (BINARY, _binary_batch, _binary_names),
    ):
        names = [*splits["train"], *splits["test"], meta]
        missing = [name for name in names if name not in contents]
        if missing and len(missing) < len(names):
            raise DataError(
                f"{origin} lacks {', '.join(missing)} of CIFAR-10. Download the archive again."
            )
        if missing:
            continue
        class_names = read_names(contents[meta], f"{meta} in {origin}")
        read = {}
        every = {
            name: read_batch(contents[name], f"{name} in {origin}")
            for name in names
            if name != meta
        }
        counts = {name: len(labels) for name, (_, labels) in every.items()}
        if len(set(counts.values())) > 1:
            raise DataError(
                f"{origin}: the batches of CIFAR-10 hold as many images each, and here {_listed(counts)}. Download the "
                "archive again."
            )
        for split, batches in splits.items():
            parts = [every[batch] for batch in batches]
            flat = np.concatenate([images for images, _ in parts])
            images = np.ascontiguousarray(flat.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))
            read[split] = (images, np.concatenate([labels for _, labels in parts]).astype(np.int32))
        return read, class_names
    raise DataError(
        f"{origin} holds no batch of CIFAR-10. Accepted are the archives {' and '.join(ARCHIVES)}."
    )


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _archive_members(path: Path) -> dict[str, bytes]:
    """The content of CIFAR-10's files in an archive by their name without folder; nothing is unpacked to disk."""
    wanted = {
        name
        for splits, meta in (PYTHON, BINARY)
        for name in (*splits["train"], *splits["test"], meta)
    }
    try:
        with tarfile.open(path, "r:*") as archive:
            members = ((member, Path(member.name).name) for member in archive if member.isfile())
            found = {}
            for member, name in members:
                if name in wanted:
                    if member.size > LARGEST:
                        raise tarfile.TarError(
                            f"{name} has {member.size:,} bytes, and CIFAR-10's have 31 million"
                        )
                    found[name] = archive.extractfile(member).read()
            return found
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{path} cannot be read as an archive ({reason}). It is damaged or only part of it is there: download it "
            f"again, as {' or '.join(ARCHIVES)}."
        ) from error


class _Batch(Machine):
    """Pickles of plain values and NumPy arrays of bytes."""

    kind = "file of CIFAR-10"
    longest = LARGEST
    functions = (
        *(
            "numpy.core.multiarray._reconstruct",
            "numpy._core.multiarray._reconstruct",
            "numpy.ndarray",
            "numpy.dtype",
        ),
        "_codecs.encode",  # in the place of bytes, by Python 3 in an old version of the format
    )

    def call(self, function, arguments):
        if function == "_codecs.encode":
            return self._bytes(expect(arguments[0], str))
        if function == "numpy.dtype":
            return _Parts(np.uint8 if arguments[:1] in (("u1",), (b"u1",)) else np.void)
        return _Parts()

    def build(self, value, state):
        """The state of an array: version, shape, type, whether by columns, content. A type's is of no use."""
        if expect(value, _Parts).dtype is None:
            _, shape, dtype, by_columns, content = expect(state, tuple)
            if len(expect(shape, tuple)) > MOST_DIMENSIONS:
                raise Damaged(f"an array has {len(shape)} dimensions")
            if not all(type(side) is int and 0 <= side <= LARGEST for side in shape):
                raise Damaged(f"the sides of an array are no numbers from 0 to {LARGEST:,}")
            value.shape, value.dtype = shape, expect(dtype, _Parts).dtype
            value.order = "F" if by_columns is True else "C"
            value.content = (
                self._bytes(content) if isinstance(content, str) else expect(content, bytes)
            )

    def _bytes(self, text: str) -> bytes:
        self.charge(len(text))
        return text.encode("latin-1")


class _Parts:
    """Of an array, or the type of one, whose `content` is None."""

    def __init__(self, dtype: type | None = None):
        self.dtype, self.shape, self.order, self.content = dtype, (), "C", None

    def array(self) -> np.ndarray | None:
        """None where it is not of bytes, or not as large as it says."""
        if (
            self.content is None
            or self.dtype is not np.uint8
            or math.prod(self.shape) != len(self.content)
        ):
            return None
        return np.frombuffer(self.content, np.uint8).reshape(self.shape, order=self.order)


def _unpickle(content: bytes, where: str) -> dict:
    """The dict in a pickle, its keys as text; arrays as `_Parts`."""
    try:
        read = expect(_Batch().parse(io.BytesIO(content)), dict)
        return {
            key.decode() if isinstance(key, bytes) else key: value for key, value in read.items()
        }
    except (Refused, ValueError) as error:
        raise DataError(
            f"{where} is not a file of CIFAR-10's python version ({error}). Get the archive again from its official "
            "place; what is not from there should not be opened."
        ) from error


def _python_batch(content: bytes, where: str) -> Split:
    read = _unpickle(content, where)
    images, labels = read.get("data"), read.get("labels")
    images = images.array() if isinstance(images, _Parts) else None
    numbered = isinstance(labels, list) and all(
        type(label) is int and 0 <= label < 2**31 for label in labels
    )
    labels = labels if numbered else []
    if images is None or images.shape != (len(labels), PIXELS):
        names = ", ".join(printable(key)[:40] for key in list(read)[:8])
        raise DataError(
            f"{where} should hold 'data', uint8 of N x {PIXELS}, and 'labels', N class numbers; it holds "
            f"{names or 'nothing'} with {len(labels)} labels. Download the archive again."
        )
    return images, np.array(labels)


def _python_names(content: bytes, where: str) -> tuple[str, ...]:
    names = _unpickle(content, where).get("label_names")
    if not isinstance(names, list) or not 0 < len(names) <= MOST_NAMES:
        raise DataError(f"{where} has no list 'label_names'. Download the archive again.")
    if not all(isinstance(name, str | bytes) and len(name) <= LONGEST_NAME for name in names):
        raise DataError(
            f"{where}: 'label_names' holds something else than names. Download the archive again."
        )
    return tuple(name.decode("latin-1") if isinstance(name, bytes) else name for name in names)


def _binary_batch(content: bytes, where: str) -> Split:
    if not content or len(content) % (1 + PIXELS):
        raise DataError(
            f"{where} is truncated: its {len(content)} bytes are no multiple of the {1 + PIXELS} of an image with "
            "its label. Download the archive again."
        )
    rows = np.frombuffer(content, np.uint8).reshape(-1, 1 + PIXELS)
    return rows[:, 1:], rows[:, 0]


def _binary_names(content: bytes, where: str) -> tuple[str, ...]:
    names = tuple(content.decode("utf-8", "replace").split())
    if not names:
        raise DataError(f"{where} names no class. Download the archive again.")
    return names
