"""PyTorch's files of weights, read and written without PyTorch: the zip format, and the legacy one that came before."""

import io
import mmap
import os
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from imgcls_jax import files
from imgcls_jax.errors import DataError
from imgcls_jax.foreign import open_regular
from imgcls_jax.pickles import Damaged, Refused, expect
from imgcls_jax.pretrained.torch_pickle import STORAGES, Storage, Tensor, parse

ZIP_START = b"PK\x03\x04"
LEGACY_START = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")  # the pickle of _LEGACY_MAGIC
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_VERSION = 1001
NESTED = (
    "state_dict",
    "model",
)  # under which training scripts keep the state dict in a larger checkpoint


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a state dict by name; read-only, of the types, shapes and strides that they have in the file.

    Memory: the file's size. Raises DataError for what is damaged or more than weights; nothing is ever executed.
    """
    try:
        with open_regular(path) as file:
            legacy = file.read(len(LEGACY_START)) == LEGACY_START
        value, contents = _read_legacy(path) if legacy else _read_zip(path)
        tensors = _state_dict(value)
        return {name: tensor.of(contents[tensor.storage]) for name, tensor in tensors.items()}
    except Refused as error:
        raise DataError(f"{path} is refused: {error}") from error
    except (
        *(Damaged, OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError),
        *(ValueError, KeyError, TypeError, OverflowError, struct.error),
    ) as error:
        reason = str(error) if isinstance(error, Damaged) else f"{type(error).__name__}: {error}"
        raise DataError(
            f"{path} is damaged or no torch file of weights: {reason[:300]}. Download or copy it again."
        ) from error


def _state_dict(value: Any) -> dict[str, Tensor]:
    found = value
    if isinstance(found, dict):
        found = next((found[key] for key in NESTED if isinstance(found.get(key), dict)), found)
    if not isinstance(found, dict):
        raise Refused(
            f"it holds a {type(found).__name__} and no state dict: torch.save(model.state_dict(), FILE)."
        )
    wrong = [
        name
        for name, tensor in found.items()
        if not (isinstance(name, str) and isinstance(tensor, Tensor))
    ]
    if wrong or not found:
        what = (
            f"entries that are not: {', '.join(repr(name)[:60] for name in wrong[:8])}"
            if wrong
            else "none"
        )
        raise Refused(
            f"a state dict of named tensors was looked for, at the top or under {' or '.join(map(repr, NESTED))}, and "
            f"there are {what}. Save the weights alone: torch.save(model.state_dict(), FILE)."
        )
    return found


def _storages(value: Any) -> list[Storage]:
    return list(dict.fromkeys(tensor.storage for tensor in _state_dict(value).values()))


def _read_zip(path: Path) -> tuple[Any, dict[Storage, bytes]]:
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        pickles = [name for name in entries if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(pickles) != 1:
            what = (
                "a Keras 3 archive: unpack its .h5 file"
                if "model.weights.h5" in entries
                else "a zip archive"
            )
            raise Damaged(f"it is {what} with {len(pickles)} files data.pkl in place of one")
        folder = pickles[0].removesuffix("data.pkl")
        # torch never compresses: what would unpack to more than the file is there to fill the memory
        packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values())
        if packed or sum(entry.file_size for entry in entries.values()) > os.path.getsize(path):
            raise Damaged("its parts are compressed or overlap")
        if f"{folder}byteorder" in entries and archive.read(f"{folder}byteorder") != b"little":
            raise Damaged("it was written on a big-endian machine")
        value = parse(io.BytesIO(archive.read(pickles[0])))
        contents, by_key = {}, {}
        for storage in _storages(value):
            if storage.key not in by_key:  # several types of entries may share one storage
                by_key[storage.key] = archive.read(f"{folder}data/{storage.key}")  # checks its CRC
            content = contents[storage] = by_key[storage.key]
            if len(content) != storage.size * storage.dtype.itemsize:
                raise Damaged(
                    f"storage {storage.key!r} has {len(content)} bytes for {storage.size} {storage.dtype}"
                )
        return value, contents


def _read_legacy(path: Path) -> tuple[Any, dict[Storage, np.ndarray]]:
    with open(path, "rb") as file:
        with mmap.mmap(
            file.fileno(), 0, access=mmap.ACCESS_READ
        ) as pickles:  # whose reads end where the file does
            magic, version = expect(parse(pickles), int), expect(parse(pickles), int)
            if (magic, version) != (_LEGACY_MAGIC, _LEGACY_VERSION):
                raise Damaged(f"its version is {version if magic == _LEGACY_MAGIC else magic}")
            system, value, keys = parse(pickles), parse(pickles), parse(pickles)
            file.seek(pickles.tell())
        if not (isinstance(system, dict) and isinstance(keys, list)):
            raise Damaged("it has no description of the machine, or no list of storages")
        if system.get("little_endian") is not True:
            raise Damaged("it was written on a big-endian machine")
        known = {storage.key: storage for storage in _all_storages(value)}
        contents = {}
        for key in keys:
            storage = known[expect(key, str)]
            contents[storage] = _legacy_content(file, storage)
        return value, contents


def _all_storages(value: Any) -> list[Storage]:
    """Those of every tensor in the file: of a larger checkpoint all come one after the other."""
    found, seen, rest = {}, set(), [value]
    while rest:
        item = rest.pop()
        if isinstance(item, Tensor):
            found[item.storage] = None
        elif isinstance(item, dict | list | tuple) and id(item) not in seen:
            seen.add(id(item))
            rest.extend(item.values() if isinstance(item, dict) else item)
    return list(found)


def _legacy_content(file: BinaryIO, storage: Storage) -> np.ndarray:
    left = os.fstat(file.fileno()).st_size - file.tell() - 8
    size = int.from_bytes(file.read(8), "little")
    if size != storage.size or size * storage.dtype.itemsize > left:
        raise Damaged(
            f"storage {storage.key!r} should have {storage.size} {storage.dtype}; {left} bytes are left"
        )
    return np.fromfile(file, storage.dtype, size)


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a state dict that torch.load(path, weights_only=True) reads, in the zip format."""
    names = {dtype: name for name, dtype in STORAGES.items()}
    with (
        files.replacing(path) as partial,
        zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive,
    ):

        def add(name: str, content: bytes | memoryview) -> None:
            archive.writestr(
                zipfile.ZipInfo(f"archive/{name}"), content
            )  # a ZipInfo without the time of day

        items = [
            _pickled_tensor(name, array, key=str(i), storage=names[array.dtype])
            for i, (name, array) in enumerate(arrays.items())
        ]
        add("data.pkl", b"".join([b"\x80\x02", _NEW_DICT, b"(", *items, b"u."]))
        add("byteorder", b"little")
        for i, array in enumerate(arrays.values()):
            add(f"data/{i}", np.ascontiguousarray(array).tobytes())
        add("version", b"3\n")


_NEW_DICT = b"ccollections\nOrderedDict\n)R"


def _pickled_tensor(name: str, array: np.ndarray, *, key: str, storage: str) -> bytes:
    """The instructions that leave the name and the tensor on the stack."""
    strides = tuple(
        stride // array.itemsize for stride in np.empty(array.shape, array.dtype).strides
    )
    persistent = [
        _plain("storage"),
        f"ctorch\n{storage}\n".encode(),
        *map(_plain, (key, "cpu", array.size)),
    ]
    arguments = [
        b"(",
        *persistent,
        b"tQ",
        *map(_plain, (0, array.shape, strides, False)),
        _NEW_DICT,
    ]
    return b"".join([_plain(name), b"ctorch._utils\n_rebuild_tensor_v2\n(", *arguments, b"tR"])


def _plain(value: str | int | bool | tuple[int, ...]) -> bytes:
    """The instructions that leave a plain value on the stack: BINUNICODE, NEWTRUE, TUPLE, BININT or LONG1."""
    if isinstance(value, str):
        content = value.encode()
        return b"X" + struct.pack("<I", len(content)) + content
    if isinstance(value, bool):
        return b"\x88" if value else b"\x89"
    if isinstance(value, tuple):
        return b"".join([b"(", *map(_plain, value), b"t"])
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    return b"\x8a\x08" + struct.pack("<q", value)
