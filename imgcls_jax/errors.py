"""Errors that the user can mend. launch.py prints their text without a traceback and exits with status 2."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


class UserError(Exception):
    """Says what was found, where, and what would be accepted."""


class ConfigError(UserError):
    """A config value, or a combination of them, that cannot work."""


class DataError(UserError):
    """Data that is missing, unreadable or not what it should be."""


class RunError(UserError):
    """A run folder that is missing, foreign, damaged or in use."""


class TrainingError(UserError):
    """Training that cannot go on, such as a loss that is no longer finite."""


def printable(text: object, *, keep: str = "") -> str:
    r"""The text with escapes, such as \x1b, in place of what a terminal would obey, and of what is invisible.

    keep: those of them that stay, such as line breaks.
    """
    return "".join(
        character
        if character.isprintable() or character in keep
        else character.encode("unicode_escape").decode()
        for character in str(text)
    )


def is_utf8(text: str) -> bool:
    """Whether it can be written; names of files that are not in UTF-8 hold halves of characters, by which Python reads
    their bytes."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def choose(kind: str, name: str, table: Mapping[str, T]) -> T:
    """`table[name]`; for a name that is not in it, a ConfigError with the nearest and all the accepted names."""
    if (
        isinstance(name, str) and name in table
    ):  # damaged files have anything in the place of a name
        return table[name]
    text = repr(name) if isinstance(name, str) else " ".join(str(name).split())
    hint = did_you_mean(str(name), table)
    raise ConfigError(
        f"There is no {kind} named {text}.{hint} Choose from: {', '.join(sorted(table))}."
    )


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """A question to put behind an error: the nearest of the names; "" where none is near."""
    near = difflib.get_close_matches(name, names, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
