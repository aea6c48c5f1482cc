"""Errors that the user can fix, and the words that their messages share.

launch.py prints such an error without a traceback and exits with status 2.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")

FORMULAS = ("=", "+", "-", "@")  # a spreadsheet takes a text that starts with these for a formula
MAX_LISTED = 5  # items that a message names before it counts the rest


class UserError(Exception):
    """The base class. A message says what was found, where, and what would be accepted."""


class ConfigError(UserError):
    """A config value, or a combination of them, that cannot work."""


class DataError(UserError):
    """Data that is missing, unreadable or not what it should be."""


class RunError(UserError):
    """A run folder that is missing, damaged, in use or made by something else."""


class TrainingError(UserError):
    """Training that cannot go on, such as a loss that is no longer finite."""


def pip_install(extra: str) -> str:
    """Returns the command that brings the packages of one of pyproject.toml's extras.

    It is for a checkout: by the project's name pip would ask an index, where that may be another's.
    """
    return f'pip install -e ".[{extra}]"'


def printable(text: object, *, keep: str = "") -> str:
    r"""Returns the text with control and invisible characters escaped, such as \x1b.

    A terminal would obey some of them. keep: those that stay, such as line breaks.
    """

    def escape(character: str) -> str:
        if character.isprintable() or character in keep:
            return character
        return character.encode("unicode_escape").decode()

    return "".join(escape(character) for character in str(text))


def is_utf8(text: str) -> bool:
    """Returns whether the text can be encoded as UTF-8.

    Names of files that are not UTF-8 cannot: Python reads their bytes as lone surrogates.
    """
    return not any("\ud800" <= character <= "\udfff" for character in text)


def choose(kind: str, name: str, table: Mapping[str, T]) -> T:
    """Returns `table[name]`.

    Raises ConfigError for a name that is not in the table. Its message suggests the nearest
    name and lists all of them.
    """
    # Damaged files have values of any type here, also ones that cannot be hashed.
    if isinstance(name, str) and name in table:
        return table[name]
    if isinstance(name, str):
        text = repr(name)
    else:
        text = " ".join(str(name).split())
    hint = did_you_mean(str(name), table)
    accepted = ", ".join(sorted(table))
    raise ConfigError(f"There is no {kind} named {text}.{hint} Choose from: {accepted}.")


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Returns the end of a message that suggests the nearest of the names, "" if none is near."""
    near = difflib.get_close_matches(name, names, n=1)
    if not near:
        return ""
    return f" Did you mean {near[0]!r}?"


def listed(items: Sequence) -> str:
    """Returns up to MAX_LISTED of the items, separated by commas, and the number of the others."""
    text = ", ".join(str(item) for item in items[:MAX_LISTED])
    others = len(items) - MAX_LISTED
    if others > 0:
        text += f" and {others:,} more"
    return text


def shape_text(shape: Iterable[int]) -> str:
    """Returns (28, 28, 1) as "28x28x1"."""
    return "x".join(str(size) for size in shape)
