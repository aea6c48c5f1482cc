"""The pickle in a torch file, read without torch and without Python's unpickler (pickles.py).

The only functions that it may call are those of `_REBUILD` and OrderedDict; what they return is a
description of a tensor, or a dict.
"""

import dataclasses
import math
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from imgcls_jax.pickles import Damaged, Machine, expect, pairs

STORAGES: dict[str, np.dtype] = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}
_REBUILD = {  # function -> numbers of arguments with which torch calls it
    "torch._utils._rebuild_tensor": (4,),
    "torch._utils._rebuild_tensor_v2": (6, 7),
    "torch._utils._rebuild_parameter": (3,),
}
_ORDERED_DICT = "collections.OrderedDict"
MAX_DIMENSIONS = 16
MAX_SIZE = 2**48


@dataclasses.dataclass(frozen=True)
class Storage:
    """Where the entries of tensors are: `size` entries under the name `key`."""

    dtype: np.dtype
    key: str
    size: int


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A view of a storage; offset and strides in entries."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self, content: bytes | np.ndarray) -> np.ndarray:
        """Returns the tensor as an array, given its storage's content; it is no copy."""
        dtype = self.storage.dtype
        offset = dtype.itemsize * self.offset
        strides = tuple(dtype.itemsize * stride for stride in self.strides)
        return np.ndarray(self.shape, dtype, content, offset, strides)


def parse(stream: BinaryIO) -> Any:
    """Returns the object of the pickle at the stream's position, tensors as `Tensor`.

    Raises Refused if the pickle names anything that a state dict does not need, and Damaged if
    it is broken.
    """
    return _StateDict().parse(stream)


class _StateDict(Machine):
    kind = "file of weights"
    functions = (_ORDERED_DICT, *_REBUILD)
    advice = (
        "So are torch.FloatStorage and the other types of storage. If you trust the file, load it "
        "in PyTorch and save its weights alone: torch.save(model.state_dict(), FILE)."
    )

    def resolve(self, name):
        """Returns the type of entries for torch.FloatStorage and its like, otherwise a function."""
        module, _, last = name.rpartition(".")
        if module in ("torch", "torch.cuda") and last in STORAGES:
            return STORAGES[last]
        return super().resolve(name)

    def call(self, function, arguments):
        if function == _ORDERED_DICT:
            return self._ordered_dict(arguments)
        if len(arguments) not in _REBUILD[function]:
            raise Damaged(f"{function} has {len(arguments)} arguments")
        if function.endswith("_parameter"):
            return expect(arguments[0], Tensor)
        storage, offset, shape, strides = arguments[:4]
        return _tensor(storage, offset, shape, strides)

    def _ordered_dict(self, arguments):
        items = []
        if arguments:  # Python 2 gives the items as an argument
            items = expect(arguments[0], list)
        if len(arguments) > 1:
            raise Damaged(f"{_ORDERED_DICT} has {len(arguments)} arguments")
        self.charge(len(items))
        return dict(pairs(items))

    def persistent_load(self, identifier):
        kind, dtype, key, _, size, *view = expect(identifier, tuple)
        if kind != "storage" or view not in ([], [None]):
            self.refuse("something outside the pickle that is not a storage")
        return Storage(expect(dtype, np.dtype), expect(key, str), _natural(size))


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> Tensor:
    """A tensor that is not larger than its storage. Raises Damaged for another."""
    expect(storage, Storage)
    expect(shape, tuple)
    expect(strides, tuple)
    if len(shape) != len(strides) or len(shape) > MAX_DIMENSIONS:
        raise Damaged(f"a tensor has {len(shape)} dimensions and {len(strides)} strides")
    shape = tuple(map(_natural, shape))
    strides = tuple(map(_natural, strides))
    offset = _natural(offset)
    if 0 in shape:
        return Tensor(storage, 0, shape, (0,) * len(shape))
    entries = math.prod(shape)
    last_entry = offset
    for size, stride in zip(shape, strides, strict=True):
        last_entry += (size - 1) * stride
    if entries > storage.size or last_entry >= storage.size:
        raise Damaged(f"a tensor of {entries} entries goes beyond its storage of {storage.size}")
    return Tensor(storage, offset, shape, strides)


def _natural(value: Any) -> int:
    """The value, if it is a whole number from 0 to MAX_SIZE. Raises Damaged otherwise."""
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not is_whole or not 0 <= value < MAX_SIZE:
        raise Damaged("a size is no number from 0 to 2**48")
    return value
