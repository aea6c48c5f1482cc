"""The pickle inside a torch file, read without torch and, by pickles.py, without Python's unpickler.

Its only functions are those of `_REBUILD` and OrderedDict, and what they give is a description of a tensor.
"""

import dataclasses
import math
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from imgcls_jax.pickles import Damaged, Machine, expect, pairs

STORAGES: dict[str, np.dtype] = {
    name: np.dtype(dtype)
    for name, dtype in {
        "DoubleStorage": "<f8",
        "FloatStorage": "<f4",
        "HalfStorage": "<f2",
        "BFloat16Storage": ml_dtypes.bfloat16,
        "LongStorage": "<i8",
        "IntStorage": "<i4",
        "ShortStorage": "<i2",
        "CharStorage": "i1",
        "ByteStorage": "u1",
        "BoolStorage": "?",
    }.items()
}
_REBUILD = {  # function -> numbers of arguments that torch calls it with
    "torch._utils._rebuild_tensor": (4,),
    "torch._utils._rebuild_tensor_v2": (6, 7),
    "torch._utils._rebuild_parameter": (3,),
}
_ORDERED_DICT = "collections.OrderedDict"
MAX_DIMENSIONS = 16


@dataclasses.dataclass(frozen=True)
class Storage:
    """Where entries of tensors lie: `size` entries under the name `key`."""

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

    def of(self, content: bytes | np.ndarray) -> np.ndarray:
        """The array, given the storage's content; no copy."""
        step = self.storage.dtype.itemsize
        strides = tuple(step * stride for stride in self.strides)
        return np.ndarray(self.shape, self.storage.dtype, content, self.offset * step, strides)


def parse(stream: BinaryIO) -> Any:
    """The object of the pickle that begins at the stream's position, tensors as `Tensor`; stops behind its end.

    Raises Refused where the pickle names anything that a state dict does not need, and Damaged where it is broken.
    """
    return _StateDict().parse(stream)


class _StateDict(Machine):
    kind = "file of weights"
    functions = (_ORDERED_DICT, *_REBUILD)
    advice = (
        "So are torch.FloatStorage and the other types of storage. If you trust the file, load it in PyTorch and save "
        "its weights alone: torch.save(model.state_dict(), FILE)."
    )

    def resolve(self, name):
        """The type of entries for torch.FloatStorage and its like, otherwise the function of that name."""
        module, _, last = name.rpartition(".")
        if module in ("torch", "torch.cuda") and last in STORAGES:
            return STORAGES[last]
        return super().resolve(name)

    def call(self, function, arguments):
        if function == _ORDERED_DICT:  # Python 2 gives the items as an argument
            items = [] if not arguments else expect(arguments[0], list)
            if len(arguments) > 1:
                raise Damaged(f"{function} has {len(arguments)} arguments")
            self.charge(len(items))
            return dict(pairs(items))
        if len(arguments) not in _REBUILD[function]:
            raise Damaged(f"{function} has {len(arguments)} arguments")
        if function.endswith("_parameter"):
            return expect(arguments[0], Tensor)
        return _tensor(*arguments[:4])

    def persistent_load(self, identifier):
        kind, dtype, key, _, size, *view = expect(identifier, tuple)
        if kind != "storage" or view not in ([], [None]):
            self.refuse("something outside the pickle that is not a storage")
        return Storage(expect(dtype, np.dtype), expect(key, str), _natural(size))


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> Tensor:
    """Checked against the storage's size: no tensor is larger than what is stored."""
    storage, shape, strides = expect(storage, Storage), expect(shape, tuple), expect(strides, tuple)
    if len(shape) != len(strides) or len(shape) > MAX_DIMENSIONS:
        raise Damaged(f"a tensor has {len(shape)} dimensions and {len(strides)} strides")
    shape, strides = tuple(map(_natural, shape)), tuple(map(_natural, strides))
    tensor = Tensor(storage, _natural(offset), shape, strides)
    entries = math.prod(shape)
    last = tensor.offset + sum(
        (side - 1) * stride for side, stride in zip(shape, strides, strict=True)
    )
    if 0 in shape:
        return Tensor(storage, 0, shape, (0,) * len(shape))
    if entries > storage.size or last >= storage.size:
        raise Damaged(f"a tensor of {entries} entries goes beyond its storage of {storage.size}")
    return tensor


def _natural(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**48:
        raise Damaged("a size is no number from 0 to 2**48")
    return value
