"""Ranges of options that a search draws from, as text: "log_uniform(1e-4, 1e-1)"."""

import ast
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from imgcls_jax.errors import ConfigError, did_you_mean

DIGITS = 4  # significant ones of a drawn number, so that it can be read and typed
FORMS = "uniform(low, high), log_uniform(low, high), integers(low, high), choice(one, other, ...)"


class Range(Protocol):
    """What an option may be in a search.

    `draw` takes a value by chance. `suggest` asks an Optuna trial, new or stored, for the value of
    an option. `extremes` are values that must all be accepted if the range is to be.
    """

    def draw(self, generator: np.random.Generator) -> Any: ...

    def suggest(self, trial: Any, path: str) -> Any: ...

    @property
    def extremes(self) -> Sequence[Any]: ...


@dataclasses.dataclass(frozen=True)
class Uniform:
    """A number from `low` to `high`."""

    low: float
    high: float
    is_log = False

    def __post_init__(self):
        _check_ends(self.low, self.high)

    def draw(self, generator):
        return self._rounded(generator.uniform(self.low, self.high))

    def suggest(self, trial, path):
        return self._rounded(trial.suggest_float(path, self.low, self.high, log=self.is_log))

    @property
    def extremes(self):
        return float(self.low), float(self.high)

    def _rounded(self, value: float) -> float:
        value = float(f"{value:.{DIGITS}g}")
        return min(max(value, self.low), self.high)


@dataclasses.dataclass(frozen=True)
class LogUniform(Uniform):
    """A number above 0 whose logarithm is uniform, so that each power of ten is as likely."""

    is_log = True

    def __post_init__(self):
        super().__post_init__()
        if self.low <= 0:
            raise ConfigError(f"{self.low} has no logarithm: give numbers above 0")

    def draw(self, generator):
        logarithm = generator.uniform(math.log(self.low), math.log(self.high))
        return self._rounded(math.exp(logarithm))


@dataclasses.dataclass(frozen=True)
class Integers:
    """A whole number from `low` to `high`, both included."""

    low: int
    high: int

    def __post_init__(self):
        _check_ends(self.low, self.high)
        if not isinstance(self.low, int) or not isinstance(self.high, int):
            raise ConfigError(f"{self.low} and {self.high} are not both whole numbers")

    def draw(self, generator):
        return int(generator.integers(self.low, self.high, endpoint=True))

    def suggest(self, trial, path):
        return trial.suggest_int(path, self.low, self.high)

    @property
    def extremes(self):
        return self.low, self.high


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of some values, which are as likely."""

    values: tuple[Any, ...]

    def __post_init__(self):
        if len(set(map(repr, self.values))) < 2:
            raise ConfigError("a choice has at least two different values")

    def draw(self, generator):
        return self.values[int(generator.integers(len(self.values)))]

    def suggest(self, trial, path):
        texts = [repr(value) for value in self.values]  # Optuna stores no tuples
        text = trial.suggest_categorical(path, texts)
        return self.values[texts.index(text)]

    @property
    def extremes(self):
        return self.values


def _choice(*values: Any) -> Choice:
    return Choice(values)


RANGES = {
    "uniform": Uniform,
    "log_uniform": LogUniform,
    "integers": Integers,
    "choice": _choice,
}


def of(search: Any) -> dict[str, Range]:
    """Returns the ranges of a study's `search`, pairs of an option's path and a text, by path.

    Raises ConfigError if it is anything else, or one of the texts is no range.
    """
    ranges: dict[str, Range] = {}
    for pair in _pairs(search):
        path, text = pair
        if path in ranges:
            raise ConfigError(f"config.search has {path!r} twice: give each option once.")
        try:
            ranges[path] = parse(text)
        except ConfigError as error:
            reason = str(error)
            if not reason.endswith("?"):
                reason += "."
            raise ConfigError(
                f"config.search: the range of {path!r} is {text!r}: {reason} Give one of: {FORMS}."
            ) from error
    return ranges


def parse(text: str) -> Range:
    """Returns the range that a text describes. Raises ConfigError if it describes none."""
    try:
        call = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError("it is not of the form name(argument, ...)") from error
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.keywords:
        raise ConfigError("it is not of the form name(argument, ...)")
    name = call.func.id
    if name not in RANGES:
        raise ConfigError(f"there is no range {name!r}.{did_you_mean(name, RANGES)}".rstrip("."))
    arguments = [_value(node) for node in call.args]
    try:
        return RANGES[name](*arguments)
    except TypeError as error:
        raise ConfigError(f"the arguments do not fit {name}") from error


def _value(node: ast.expr) -> Any:
    """Returns a literal, or a bare word as a text."""
    if isinstance(node, ast.Name):
        return node.id
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise ConfigError(f"{ast.unparse(node)!r} is no number, word or tuple of these") from error


def _pairs(search: Any) -> Sequence[tuple[str, str]]:
    is_pairs = isinstance(search, Sequence) and not isinstance(search, str)
    if is_pairs:
        is_pairs = all(_is_pair(pair) for pair in search)
    if not is_pairs:
        raise ConfigError(
            f"config.search is {search!r}: give pairs of an option and its range, as in "
            "--config.search=\"(('optimizer.learning_rate', 'log_uniform(1e-4, 1e-1)'),)\"."
        )
    return search


def _is_pair(pair: Any) -> bool:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        return False
    return all(isinstance(text, str) for text in pair)


def _check_ends(low: Any, high: Any) -> None:
    """Raises ConfigError unless these are finite numbers, the lower one first."""
    for end in (low, high):
        is_number = isinstance(end, int | float) and not isinstance(end, bool)
        if not is_number or not math.isfinite(end):
            raise ConfigError(f"{end!r} is no number")
    if low >= high:
        raise ConfigError(f"{low} is not below {high}")


def described(options: Mapping[str, Any]) -> str:
    """Returns options as a line shows them: "learning_rate=0.0123, batch_size=32"."""
    names = short_names(list(options))
    return ", ".join(f"{names[path]}={value}" for path, value in options.items())


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """Returns what to call options by their paths: the last part if that says which one it is."""
    lasts = [path.rpartition(".")[2] for path in paths]
    names = {}
    for path, last in zip(paths, lasts, strict=True):
        names[path] = path
        if last != "name" and lasts.count(last) == 1:
            names[path] = last
    return names
