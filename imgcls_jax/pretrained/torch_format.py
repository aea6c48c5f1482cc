"""PyTorch's files of weights, read and written without PyTorch.

There are two formats: zip, and the legacy one before it.
"""

import io
import mmap
import os
import struct
import zipfile
from collections.abc import Iterable, Mapping
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
# Where training scripts keep the state dict in a larger checkpoint.
NESTED = ("state_dict", "model")

Contents = dict[Storage, bytes | np.ndarray]


# ---------------------------------------------------------------------------------------------
# Reading


def read(path: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a state dict by name.

    They are read-only, with the types, shapes and strides of the file.

    Memory: the file's size. Raises DataError for a damaged file, or one with more than weights;
    nothing in it is ever executed.
    """
    try:
        with open_regular(path) as file:
            is_legacy = file.read(len(LEGACY_START)) == LEGACY_START
        read_file = _read_legacy if is_legacy else _read_zip
        value, contents = read_file(path)
        tensors = _state_dict(value)
        return {name: tensor.array(contents[tensor.storage]) for name, tensor in tensors.items()}
    except Refused as error:
        raise DataError(f"{path} is refused: {error}") from error
    except (
        Damaged,
        OSError,
        zipfile.BadZipFile,
        NotImplementedError,
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        OverflowError,
        struct.error,
    ) as error:
        reason = f"{type(error).__name__}: {error}"
        if isinstance(error, Damaged):
            reason = str(error)
        raise DataError(
            f"{path} is damaged or no torch file of weights: {reason[:300]}. "
            "Download or copy it again."
        ) from error


def _state_dict(value: Any) -> dict[str, Tensor]:
    """The state dict in an unpickled file, at the top or in a larger checkpoint. Raises Refused."""
    state = value
    if isinstance(value, dict):
        nested = [value[key] for key in NESTED if isinstance(value.get(key), dict)]
        if nested:
            state = nested[0]
    if not isinstance(state, dict):
        raise Refused(
            f"it holds a {type(state).__name__} and no state dict: "
            "torch.save(model.state_dict(), FILE)."
        )
    wrong = []
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            wrong.append(repr(name)[:60])
    if wrong or not state:
        content = "none"
        if wrong:
            content = f"entries that are not: {', '.join(wrong[:8])}"
        raise Refused(
            "a state dict of named tensors was looked for, at the top or under "
            f"{' or '.join(map(repr, NESTED))}, and there are {content}. "
            "Save the weights alone: torch.save(model.state_dict(), FILE)."
        )
    return state


def _read_zip(path: Path) -> tuple[Any, Contents]:
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        folder = _zip_folder(entries)
        _check_entries(entries.values(), os.path.getsize(path))
        byte_order = f"{folder}byteorder"
        if byte_order in entries and archive.read(byte_order) != b"little":
            raise Damaged("it was written on a big-endian machine")
        value = parse(io.BytesIO(archive.read(f"{folder}data.pkl")))

        contents: Contents = {}
        content_of_key = {}  # several types of entries may share one storage
        for tensor in _state_dict(value).values():
            storage = tensor.storage
            if storage in contents:
                continue
            if storage.key not in content_of_key:
                name = f"{folder}data/{storage.key}"
                content_of_key[storage.key] = archive.read(name)  # checks its CRC
            content = content_of_key[storage.key]
            if len(content) != storage.size * storage.dtype.itemsize:
                raise Damaged(
                    f"storage {storage.key!r} has {len(content)} bytes for "
                    f"{storage.size} {storage.dtype}"
                )
            contents[storage] = content
        return value, contents


def _zip_folder(names: Iterable[str]) -> str:
    """The folder of data.pkl in a zip archive. Raises Damaged unless there is exactly one."""
    pickles = [name for name in names if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(pickles) == 1:
        return pickles[0].removesuffix("data.pkl")
    kind = "a zip archive"
    if "model.weights.h5" in names:
        kind = "a Keras 3 archive: unpack its .h5 file"
    raise Damaged(f"it is {kind} with {len(pickles)} files data.pkl instead of one")


def _check_entries(entries: Iterable[zipfile.ZipInfo], file_bytes: int) -> None:
    """Raises Damaged for entries that unpack to more than the file: torch never compresses."""
    entries = list(entries)
    total_bytes = sum(entry.file_size for entry in entries)
    is_compressed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if is_compressed or total_bytes > file_bytes:
        raise Damaged("its parts are compressed or overlap")


def _read_legacy(path: Path) -> tuple[Any, Contents]:
    with open(path, "rb") as file:
        # Reads of the mapped file end where the file does, whatever length a pickle asks for.
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pickles:
            _check_version(pickles)
            system = parse(pickles)
            value = parse(pickles)
            keys = parse(pickles)
            file.seek(pickles.tell())
        if not (isinstance(system, dict) and isinstance(keys, list)):
            raise Damaged("it has no description of the machine, or no list of storages")
        if system.get("little_endian") is not True:
            raise Damaged("it was written on a big-endian machine")

        storages = {storage.key: storage for storage in _all_storages(value)}
        contents: Contents = {}
        for key in keys:
            storage = storages[expect(key, str)]
            contents[storage] = _read_storage(file, storage)
        return value, contents


def _check_version(pickles: BinaryIO) -> None:
    magic = expect(parse(pickles), int)
    version = expect(parse(pickles), int)
    if magic != _LEGACY_MAGIC:
        raise Damaged(f"its version is {magic}")
    if version != _LEGACY_VERSION:
        raise Damaged(f"its version is {version}")


def _all_storages(value: Any) -> list[Storage]:
    """The storages of all tensors in the file, also of those in a larger checkpoint, each once."""
    storages: dict[Storage, None] = {}
    visited = set()
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, Tensor):
            storages[item.storage] = None
        elif isinstance(item, dict | list | tuple) and id(item) not in visited:
            visited.add(id(item))
            children = item.values() if isinstance(item, dict) else item
            pending.extend(children)
    return list(storages)


def _read_storage(file: BinaryIO, storage: Storage) -> np.ndarray:
    bytes_left = os.fstat(file.fileno()).st_size - file.tell() - 8
    size = int.from_bytes(file.read(8), "little")
    if size != storage.size or size * storage.dtype.itemsize > bytes_left:
        raise Damaged(
            f"storage {storage.key!r} should have {storage.size} {storage.dtype}; "
            f"{bytes_left} bytes are left"
        )
    return np.fromfile(file, storage.dtype, size)


# ---------------------------------------------------------------------------------------------
# Writing


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a state dict that torch.load(path, weights_only=True) reads, in the zip format."""
    storage_names = {dtype: name for name, dtype in STORAGES.items()}
    instructions = []
    for i, (name, array) in enumerate(arrays.items()):
        storage = storage_names[array.dtype]
        instructions.append(_pickled_tensor(name, array, key=str(i), storage=storage))
    data = b"".join([b"\x80\x02", _NEW_DICT, b"(", *instructions, b"u."])

    with (
        files.replacing(path) as partial,
        zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive,
    ):
        _add_entry(archive, "data.pkl", data)
        _add_entry(archive, "byteorder", b"little")
        for i, array in enumerate(arrays.values()):
            _add_entry(archive, f"data/{i}", np.ascontiguousarray(array).tobytes())
        _add_entry(archive, "version", b"3\n")


def _add_entry(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    # A new ZipInfo has no time of day, so that the same weights give the same file.
    archive.writestr(zipfile.ZipInfo(f"archive/{name}"), content)


_NEW_DICT = b"ccollections\nOrderedDict\n)R"


def _pickled_tensor(name: str, array: np.ndarray, *, key: str, storage: str) -> bytes:
    """The instructions that leave the name and the tensor on the stack."""
    contiguous = np.empty(array.shape, array.dtype)
    strides = tuple(stride // array.itemsize for stride in contiguous.strides)
    parts = [
        _plain(name),
        b"ctorch._utils\n_rebuild_tensor_v2\n(",
        # the storage
        b"(",
        _plain("storage"),
        f"ctorch\n{storage}\n".encode(),
        _plain(key),
        _plain("cpu"),
        _plain(array.size),
        b"tQ",
        # offset, shape, strides, requires_grad, backward hooks
        _plain(0),
        _plain(array.shape),
        _plain(strides),
        _plain(False),
        _NEW_DICT,
        b"tR",
    ]
    return b"".join(parts)


def _plain(value: str | int | bool | tuple[int, ...]) -> bytes:
    """The instructions that leave a plain value on the stack.

    They are BINUNICODE, NEWTRUE, NEWFALSE, TUPLE, BININT or LONG1.
    """
    if isinstance(value, str):
        content = value.encode()
        return b"X" + struct.pack("<I", len(content)) + content
    if value is True:
        return b"\x88"
    if value is False:
        return b"\x89"
    if isinstance(value, tuple):
        return b"".join([b"(", *map(_plain, value), b"t"])
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    return b"\x8a\x08" + struct.pack("<q", value)
