"""Reads pickles without Python's unpickler, so that nothing in them can be executed.

A pickle is a program for a small stack machine. The machine here implements the few instructions
that plain data needs. A subclass for each kind of file says which functions a pickle may name, and
what calling them returns. Any other name is refused.

Time and memory are bounded: by the number of instructions (MAX_INSTRUCTIONS), by the length of
texts and numbers, and by `charge`, which every call tells how much it copies. Values may contain
each other many times over, so that walking through one can take forever: nothing here, and no
caller, may print, compare or hash a value before its type was checked with `expect`.
"""

import dataclasses
import os
import pickletools
import warnings
from typing import Any, BinaryIO, ClassVar, NoReturn

from imgcls_jax.errors import DataError

# CIFAR-10's batches have 50,000, a state dict of 10,000 tensors 400,000.
MAX_INSTRUCTIONS = 1_000_000
MAX_NUMBER = 2**80  # torch's files begin with a number of 77 bits


class Refused(DataError):
    """The pickle asks for more than a file of its kind needs."""


class Damaged(ValueError):
    """The pickle is broken: no program can have written it."""


@dataclasses.dataclass(frozen=True)
class Global:
    """A function that a pickle may call."""

    name: str


class Machine:
    """Runs one pickle: `machine.parse(stream)`."""

    kind: ClassVar[str]  # of file, for errors
    functions: ClassVar[tuple[str, ...]]  # that a pickle may name
    advice: ClassVar[str] = ""  # what to do with a file that is refused
    max_text: ClassVar[int] = 2**16  # bytes of a text in the pickle

    def __init__(self):
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.budget = 0  # bytes and items that calls may still copy

    def call(self, function: str, arguments: tuple) -> Any:
        """Returns the result of one of the functions."""
        raise NotImplementedError

    def resolve(self, name: str) -> Any:
        """Returns what a name in the pickle stands for."""
        if name not in self.functions:
            self.refuse(repr(name[:200]))
        return Global(name)

    def persistent_load(self, identifier: Any) -> Any:
        """Returns the value of a reference to something outside the pickle."""
        self.refuse("something outside the pickle")

    def build(self, value: Any, state: Any) -> None:
        """Sets the state of a value. The attributes of a dict, as torch sets them, are ignored."""
        expect(value, dict)

    def charge(self, amount: int) -> None:
        """Counts bytes or items that are about to be copied.

        Raises Damaged if all copies are larger than the file.
        """
        self.budget -= amount
        if self.budget < 0:
            raise Damaged("it makes more of its content than the file holds")

    def refuse(self, what: str) -> NoReturn:
        message = (
            f"it asks for {what}, which no {self.kind} needs. Nothing was executed. Accepted are "
            f"{', '.join(self.functions)}. {self.advice}"
        )
        raise Refused(message.rstrip())

    def parse(self, stream: BinaryIO) -> Any:
        """Returns the object of the pickle at the stream's position, and stops after its end.

        Raises Refused if it names anything that is not allowed, Damaged if it is broken.
        """
        try:
            # pickletools warns of odd text, which is refused anyway.
            with warnings.catch_warnings(action="ignore"):
                return self._run(stream)
        except Damaged as error:
            raise Damaged(f"in its pickle, {str(error)[:200]}") from error
        except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise Damaged(f"in its pickle, {reason[:200]}") from error

    def _run(self, stream: BinaryIO) -> Any:
        self.budget = _bytes_left(stream)
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if opcode.name == "STOP":
                return self.stack.pop()
            if count == MAX_INSTRUCTIONS:
                raise Damaged(f"there are more than {MAX_INSTRUCTIONS:,} instructions")
            self._check_argument(argument)
            self._step(opcode.name, argument)
        raise Damaged("it has no end")

    def _check_argument(self, argument: Any) -> None:
        if isinstance(argument, str | bytes) and len(argument) > self.max_text:
            raise Damaged(f"a text has {len(argument):,} bytes")
        if isinstance(argument, int) and abs(argument) >= MAX_NUMBER:
            raise Damaged(f"a number has {argument.bit_length()} bits")

    def _step(self, opcode: str, argument: Any) -> None:
        stack = self.stack
        match opcode:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                self.marks.append(len(stack))
            case "NONE":
                stack.append(None)
            case "NEWTRUE":
                stack.append(True)
            case "NEWFALSE":
                stack.append(False)
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                stack.append(argument)
            case "BINUNICODE" | "SHORT_BINUNICODE" | "BINBYTES" | "SHORT_BINBYTES":
                stack.append(argument)
            case "BINSTRING" | "SHORT_BINSTRING":  # of Python 2
                stack.append(argument)
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case "TUPLE":
                stack.append(tuple(self._pop_to_mark()))
            case "TUPLE1":
                stack.append(tuple(self._pop(1)))
            case "TUPLE2":
                stack.append(tuple(self._pop(2)))
            case "TUPLE3":
                stack.append(tuple(self._pop(3)))
            case "APPEND":
                self._extend_list(self._pop(1))
            case "APPENDS":
                self._extend_list(self._pop_to_mark())
            case "SETITEM":
                self._update_dict(self._pop(2))
            case "SETITEMS":
                self._update_dict(self._pop_to_mark())
            case "GLOBAL":
                stack.append(self.resolve(argument.replace(" ", ".")))
            case "STACK_GLOBAL":
                module, name = self._pop(2)
                stack.append(self.resolve(f"{expect(module, str)}.{expect(name, str)}"))
            case "BINPERSID":
                stack.append(self.persistent_load(stack.pop()))
            case "REDUCE":
                function, arguments = self._pop(2)
                stack.append(self.call(expect(function, Global).name, expect(arguments, tuple)))
            case "BUILD":
                state = stack.pop()
                self.build(stack[-1], state)
            case _:
                self.refuse(f"the pickle instruction {opcode}")

    def _extend_list(self, items: list[Any]) -> None:
        expect(self.stack[-1], list).extend(items)

    def _update_dict(self, items: list[Any]) -> None:
        keys_and_values = zip(items[::2], items[1::2], strict=True)
        expect(self.stack[-1], dict).update(pairs(keys_and_values))

    def _pop(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise Damaged("it takes more from the stack than there is")
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def _pop_to_mark(self) -> list[Any]:
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items


def _bytes_left(stream: BinaryIO) -> int:
    position = stream.tell()
    stream.seek(0, os.SEEK_END)
    end = stream.tell()
    stream.seek(position)
    return end - position


def pairs(items: Any) -> list[tuple[Any, Any]]:
    """Returns (key, value) of each item.

    Raises Damaged for a key that is not plain: the hash of nested tuples could take forever.
    """
    pairs = [(key, value) for key, value in items]
    for key, _ in pairs:
        if not isinstance(key, str | int | float | None):
            raise Damaged(f"a dict has a {type(key).__name__} as a key")
    return pairs


def expect(value: Any, kind: type) -> Any:
    """Returns the value. Raises Damaged if it is not of that type."""
    if not isinstance(value, kind):
        raise Damaged(f"there is a {type(value).__name__} in the place of a {kind.__name__}")
    return value
