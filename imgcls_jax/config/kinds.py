"""Kinds of options: what values each accepts.

`kind.remedy(value)` says what would be accepted in place of a value, "" if the value is accepted.
"""

import dataclasses
import math
import re
from typing import Any, ClassVar, Protocol

from imgcls_jax.errors import is_utf8

LONGEST_NAME = 200  # characters, of the 255 bytes that file systems have for a name


class Kind(Protocol):
    def remedy(self, value: Any) -> str: ...


@dataclasses.dataclass(frozen=True)
class Number:
    """A number from `low` to `high`; those that are `open` ("", "low", "high" or "both") excluded."""

    low: float = 0
    high: float = math.inf
    open: str = ""
    noun: ClassVar[str] = "a number, finite in float32"
    limit: ClassVar[float] = 3.4e38
    type: ClassVar[type] = float

    def remedy(self, value: Any) -> str:
        is_number = isinstance(value, int | self.type) and not isinstance(value, bool)
        if not is_number or not abs(value) <= self.limit:
            return f"give {self.noun}, {self}"
        is_above = value > self.low if self._is_open("low") else value >= self.low
        is_below = value < self.high if self._is_open("high") else value <= self.high
        return "" if is_above and is_below else f"give {self}"

    def _is_open(self, end: str) -> bool:
        return self.open in (end, "both")

    def __str__(self) -> str:
        if self.low == -math.inf:
            return "of either sign"
        above = f"above {self.low:,}"
        if self.high == math.inf:
            return above if self._is_open("low") else f"{self.low:,} or more"
        lower = above if self._is_open("low") else f"at least {self.low:,}"
        upper = f"below {self.high:,}" if self._is_open("high") else f"at most {self.high:,}"
        return f"{lower} and {upper}"


@dataclasses.dataclass(frozen=True)
class Whole(Number):
    noun = "a whole number below 2**31"
    limit = 2**31 - 1
    type = int


class Bytes(Whole):
    noun = "a whole number below 2**63"
    limit = 2**63 - 1


class Portion(Number):
    """A share of the examples, or a number of them."""

    noun = "a share below 1 or a whole number of examples"

    def remedy(self, value):
        if wrong := super().remedy(value):
            return wrong
        if value >= 1 and value != int(value):
            return f"give {self.noun}"
        return ""

    def __str__(self) -> str:
        return f"{super().__str__()}: {self.noun}"


class Flag:
    def remedy(self, value):
        return "" if isinstance(value, bool) else "give True or False"

    def __str__(self) -> str:
        return "True or False"


@dataclasses.dataclass(frozen=True)
class Text:
    is_optional: bool = False  # whether None is accepted

    def remedy(self, value):
        if value is None and self.is_optional:
            return ""
        if not isinstance(value, str) or "\0" in value:
            return "give a text, without zero bytes"
        if not is_utf8(value):
            return "give a text that is UTF-8; a file or folder with another name must be renamed"
        return ""

    def __str__(self) -> str:
        return "text"


class FileName(Text):
    def remedy(self, value):
        if (wrong := super().remedy(value)) or not value:
            return wrong
        if "/" in value or value in (".", "..") or len(value) > LONGEST_NAME:
            return f"give a file's name, without slashes, of at most {LONGEST_NAME} characters"
        return ""

    def __str__(self) -> str:
        return "a file's name"


class Pattern(Text):
    def remedy(self, value):
        if wrong := super().remedy(value):
            return wrong
        try:
            re.compile(value)
        except (re.error, OverflowError, RecursionError) as error:
            return f"give a regular expression; this is not one ({error})"
        return ""

    def __str__(self) -> str:
        return "regular expression"


class Choice(Text):
    """A name in a table; `training/checks.py` has the tables."""

    def __str__(self) -> str:
        return "one of the names"


@dataclasses.dataclass(frozen=True)
class Tuple:
    """A tuple of what `item` accepts, at least `least`."""

    item: Kind
    least: int = 0

    def remedy(self, value):
        if not isinstance(value, tuple | list):
            return "give a tuple, as in (1,) or ('a',)"
        if len(value) < self.least:
            return f"give at least {self.least}"
        for item in value:
            if wrong := self.item.remedy(item):
                return f"of each, {wrong}"
        return ""

    def __str__(self) -> str:
        return f"tuple, of each: {self.item}"


@dataclasses.dataclass(frozen=True)
class Pair:
    first: Kind
    second: Kind

    def remedy(self, value):
        if not isinstance(value, tuple | list) or len(value) != 2:
            return "give a pair"
        return self.first.remedy(value[0]) or self.second.remedy(value[1])

    def __str__(self) -> str:
        return f"pair: {self.first}; {self.second}"


class Section:
    """A place for options by name, which models, objectives and phases bring."""

    def remedy(self, value):
        return ""

    def __str__(self) -> str:
        return "options by name"


SEED = Whole(0)
SHARE = Number(0, 1)
BELOW_1 = Number(0, 1, "high")
POSITIVE = Number(0, open="low")
