"""Pickles read without Python's unpickler: there is nothing they could execute.

A pickle is a program for a small stack machine. The machine here knows the few instructions that plain data needs; what
a pickle may name, and what its calls then give, says a subclass for one kind of file. Whatever else one names is
refused.

Time and memory are bounded: by the number of instructions (MOST_INSTRUCTIONS), by the lengths of texts and numbers, and
by `charge`, to which each call says how much it makes of what is there already. Values may contain each other many
times over, so that walking through one can take forever: nothing here, and nothing that gets a value, may print,
compare or hash one before it has found that it is plain.
"""

import dataclasses
import os
import pickletools
import warnings
from typing import Any, BinaryIO, ClassVar

from imgcls_jax.errors import DataError

MOST_INSTRUCTIONS = (
    1_000_000  # CIFAR-10's batches have 50,000, a state dict of 10,000 tensors 400,000
)
LARGEST_NUMBER = 2**80  # torch's files begin with one of 77 bits


class Refused(DataError):
    """A pickle that is more than such a file needs."""


class Damaged(ValueError):
    """A pickle that nothing can have written."""


@dataclasses.dataclass(frozen=True)
class Global:
    """A function that a pickle may call."""

    name: str


class Machine:
    """Runs one pickle: `machine.parse(stream)`."""

    kind: ClassVar[str]  # of file, in errors
    functions: ClassVar[tuple[str, ...]]  # that a pickle may name
    advice: ClassVar[str] = ""  # for a file that is refused
    longest: ClassVar[int] = 2**16  # bytes of a text in it

    def __init__(self):
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.room = 0  # bytes and items that calls may still make

    def call(self, function: str, arguments: tuple) -> Any:
        """What one of the functions gives."""
        raise NotImplementedError

    def named(self, name: str) -> Any:
        """What stands for a name in the pickle."""
        if name not in self.functions:
            self.refuse(repr(name[:200]))
        return Global(name)

    def stored(self, identifier: Any) -> Any:
        """What lies outside the pickle."""
        self.refuse("something outside the pickle")

    def build(self, value: Any, state: Any) -> None:
        """Sets the attributes of a value: those of a dict, such as torch's _metadata, are of no use here."""
        expect(value, dict)

    def charge(self, amount: int) -> None:
        """To be called before so many bytes or items are copied. Raises Damaged beyond what the pickle itself holds."""
        self.room -= amount
        if self.room < 0:
            raise Damaged("it makes more of its content than the file holds")

    def refuse(self, what: str) -> None:
        raise Refused(
            f"it asks for {what}, which no {self.kind} needs. Nothing was executed. Accepted are "
            f"{', '.join(self.functions)}. {self.advice}".rstrip()
        )

    def parse(self, stream: BinaryIO) -> Any:
        """The object of the pickle that begins at the stream's position; stops behind its end.

        Raises Refused where it names anything else than it may, and Damaged where it is broken.
        """
        try:
            with warnings.catch_warnings(
                action="ignore"
            ):  # of pickletools for odd text, which is refused anyway
                return self._run(stream)
        except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError) as error:
            reason = (
                str(error) if isinstance(error, Damaged) else f"{type(error).__name__}: {error}"
            )
            raise Damaged(f"in its pickle, {reason[:200]}") from error

    def _run(self, stream: BinaryIO) -> Any:
        self.room = _bytes_left(stream)
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if opcode.name == "STOP":
                return self.stack.pop()
            if count == MOST_INSTRUCTIONS:
                raise Damaged(f"there are more than {MOST_INSTRUCTIONS:,} instructions")
            self._check_argument(argument)
            self._step(opcode.name, argument)
        raise Damaged("there is no end")

    def _check_argument(self, argument: Any) -> None:
        if isinstance(argument, str | bytes) and len(argument) > self.longest:
            raise Damaged(f"a text has {len(argument):,} bytes")
        if isinstance(argument, int) and abs(argument) >= LARGEST_NUMBER:
            raise Damaged(f"a number has {argument.bit_length()} bits")

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
            case (
                "BINUNICODE" | "SHORT_BINUNICODE" | "BINSTRING" | "SHORT_BINSTRING"
            ):  # the last two by Python 2
                stack.append(argument)
            case "BINBYTES" | "SHORT_BINBYTES":
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
                expect(stack[-1], list).extend(items)
            case "SETITEM" | "SETITEMS":
                items = self._pop(2) if opcode == "SETITEM" else self._above_mark()
                expect(stack[-1], dict).update(pairs(zip(items[::2], items[1::2], strict=True)))
            case "GLOBAL":
                stack.append(self.named(argument.replace(" ", ".")))
            case "STACK_GLOBAL":
                module, name = self._pop(2)
                stack.append(self.named(f"{expect(module, str)}.{expect(name, str)}"))
            case "BINPERSID":
                stack.append(self.stored(stack.pop()))
            case "REDUCE":
                function, arguments = self._pop(2)
                stack.append(self.call(expect(function, Global).name, expect(arguments, tuple)))
            case "BUILD":
                (state,) = self._pop(1)
                self.build(stack[-1], state)
            case _:
                self.refuse(f"the pickle instruction {opcode}")

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


def _bytes_left(stream: BinaryIO) -> int:
    here = stream.tell()
    stream.seek(0, os.SEEK_END)
    end = stream.tell()
    stream.seek(here)
    return end - here


def pairs(items: Any) -> list[tuple[Any, Any]]:
    """(key, value) of each item. Keys are plain: the hash of nested tuples could take forever."""
    pairs = [(key, value) for key, value in items]
    for key, _ in pairs:
        if not isinstance(key, str | int | float | None):
            raise Damaged(f"a dict has a {type(key).__name__} as a key")
    return pairs


def expect(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise Damaged(f"there is a {type(value).__name__} in the place of a {kind.__name__}")
    return value
