"""The pickle inside a torch file, read without torch and without Python's unpickler: there is nothing it could execute.

A pickle is a program for a small stack machine. The machine here knows the few instructions that a state dict needs;
its only functions are those of `_REBUILD` and OrderedDict, and what they give is a description of a tensor. Whatever
else a pickle names is refused.
"""

import dataclasses
import math
import pickletools
import warnings
from typing import Any, BinaryIO, NoReturn

import ml_dtypes
import numpy as np

from imgcls_jax.errors import DataError

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


@dataclasses.dataclass(frozen=True)
class _Global:
    name: str


class Refused(DataError):
    """A pickle that is more than a state dict."""


class Damaged(ValueError):
    """A pickle that nothing can have written."""


def parse(stream: BinaryIO) -> Any:
    """The object of the pickle that begins at the stream's position, tensors as `Tensor`; stops behind its end.

    Raises Refused where the pickle names anything that a state dict does not need, and Damaged where it is broken.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # pickletools gives them for odd text, which is refused anyway
            return _Machine().run(stream)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError) as error:
        reason = str(error) if isinstance(error, Damaged) else f"{type(error).__name__}: {error}"
        raise Damaged(f"in its pickle, {reason[:200]}") from error


class _Machine:
    def __init__(self):
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self, stream: BinaryIO) -> Any:
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name == "STOP":
                return self.stack.pop()
            self._step(opcode.name, argument)
        raise Damaged("there is no end")

    def _step(self, opcode: str, argument: Any) -> None:
        stack = self.stack
        match opcode:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                self.marks.append(len(stack))
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                stack.append(argument)
            case "BINUNICODE" | "SHORT_BINUNICODE" | "BINSTRING" | "SHORT_BINSTRING":  # the last two by Python 2
                stack.append(argument)
            case "EMPTY_DICT" | "EMPTY_LIST" | "EMPTY_TUPLE":
                stack.append({"EMPTY_DICT": {}, "EMPTY_LIST": [], "EMPTY_TUPLE": ()}[opcode])
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case "TUPLE":
                stack.append(tuple(self._above_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self._pop(int(opcode[-1]))))
            case "APPEND" | "APPENDS":
                items = self._pop(1) if opcode == "APPEND" else self._above_mark()
                _expect(stack[-1], list).extend(items)
            case "SETITEM" | "SETITEMS":
                items = self._pop(2) if opcode == "SETITEM" else self._above_mark()
                _expect(stack[-1], dict).update(_pairs(zip(items[::2], items[1::2], strict=True)))
            case "GLOBAL":
                stack.append(_allowed(argument.replace(" ", ".")))
            case "STACK_GLOBAL":
                module, name = self._pop(2)
                stack.append(_allowed(f"{_expect(module, str)}.{_expect(name, str)}"))
            case "BINPERSID":
                stack.append(_storage(stack.pop()))
            case "REDUCE":
                function, arguments = self._pop(2)
                stack.append(_call(_expect(function, _Global).name, _expect(arguments, tuple)))
            case "BUILD":  # attributes of an OrderedDict: torch's _metadata, of no use here
                self._pop(1)
                _expect(stack[-1], dict)
            case _:
                _refuse(f"the pickle instruction {opcode}")

    def _pop(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise Damaged("more is taken from the stack than there is")
        taken = self.stack[-count:]
        del self.stack[-count:]
        return taken

    def _above_mark(self) -> list[Any]:
        mark = self.marks.pop()
        taken = self.stack[mark:]
        del self.stack[mark:]
        return taken


def _allowed(name: str) -> Any:
    """The type of entries for torch.FloatStorage and its like, otherwise the function of that name."""
    module, _, last = name.rpartition(".")
    if module in ("torch", "torch.cuda") and last in STORAGES:
        return STORAGES[last]
    if name != _ORDERED_DICT and name not in _REBUILD:
        _refuse(repr(name[:200]))
    return _Global(name)


def _refuse(what: str) -> NoReturn:
    accepted = ", ".join((_ORDERED_DICT, *_REBUILD, "torch.FloatStorage and the other types of storage"))
    raise Refused(
        f"it asks for {what}, which no file of weights needs. Nothing was executed. Accepted are {accepted}. "
        "If you trust the file, load it in PyTorch and save its weights alone: torch.save(model.state_dict(), FILE)."
    )


def _call(function: str, arguments: tuple) -> Any:
    if function == _ORDERED_DICT:  # Python 2 gives the items as an argument
        return dict(_pairs(*map(_expect_list, arguments)) if arguments else ())
    if len(arguments) not in _REBUILD[function]:
        raise Damaged(f"{function} has {len(arguments)} arguments")
    if function.endswith("_parameter"):
        return _expect(arguments[0], Tensor)
    return _tensor(*arguments[:4])


def _storage(identifier: Any) -> Storage:
    kind, dtype, key, _, size, *view = _expect(identifier, tuple)
    if kind != "storage" or view not in ([], [None]):
        _refuse("something outside the pickle that is not a storage")
    return Storage(_expect(dtype, np.dtype), _expect(key, str), _natural(size))


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> Tensor:
    """Checked against the storage's size: no tensor is larger than what is stored."""
    storage = _expect(storage, Storage)
    shape, strides = (tuple(map(_natural, _expect(sides, tuple))) for sides in (shape, strides))
    if len(shape) != len(strides) or len(shape) > MAX_DIMENSIONS:
        raise Damaged(f"a tensor has {len(shape)} dimensions and {len(strides)} strides")
    tensor = Tensor(storage, _natural(offset), shape, strides)
    entries = math.prod(shape)
    last = tensor.offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
    if 0 in shape:
        return Tensor(storage, 0, shape, (0,) * len(shape))
    if entries > storage.size or last >= storage.size:
        raise Damaged(f"a tensor of {entries} entries goes beyond its storage of {storage.size}")
    return tensor


def _pairs(items: Any) -> list[tuple[Any, Any]]:
    """(key, value) of each item. Keys are plain: the hash of nested tuples could take forever."""
    pairs = [(key, value) for key, value in items]
    for key, _ in pairs:
        if not isinstance(key, str | int | float | None):
            raise Damaged(f"a dict has a {type(key).__name__} as a key")
    return pairs


def _natural(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**48:
        raise Damaged("a size is no number from 0 to 2**48")
    return value


def _expect_list(value: Any) -> list:
    return _expect(value, list)


def _expect(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise Damaged(f"there is a {type(value).__name__} in the place of a {kind.__name__}")
    return value
