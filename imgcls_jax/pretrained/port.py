"""Renames a file's arrays into a model's variables, and back. Every array has to fit."""

import collections
import difflib
import logging
import re
from collections.abc import Iterable, MutableMapping
from typing import Any

import jax
import numpy as np

from imgcls_jax import trees
from imgcls_jax.errors import ConfigError, DataError
from imgcls_jax.pretrained import layouts
from imgcls_jax.pretrained.naming import NameOf

log = logging.getLogger(__name__)

Variables = dict[str, Any]
LINES = 20  # of each kind of error, at most: if all names are wrong, a few show how


def port(
    arrays: MutableMapping[str, np.ndarray],
    expected: Any,
    *,
    name_of: NameOf,
    ignored: Iterable[str] = (),
    skip: str | None = None,
    source: str = "The file",
) -> Variables:
    """Returns the arrays as a model's variables: the nested dicts of `expected`, leaves float32.

    expected: a tree of the model's variables ({"params": ..., "batch_stats": ...}) or of shapes.
    name_of: the key map. ignored: regexes of whole names in the file that are left out. skip: regex
    of variable paths that are not taken from the file; they keep the leaves of `expected`. source:
    the name of the file in messages. Removes what it takes from `arrays`, so that at most one array
    is in memory twice.

    Raises DataError with all missing, unused, misshaped and unusable arrays, and ConfigError if
    `skip` matches nothing.
    """
    leaves = trees.flatten(expected)
    skipped = _skipped(leaves, skip)
    names = {}
    array_layouts = {}
    for path in leaves:
        names[path], array_layouts[path] = name_of(path)
    wanted = {path: name for path, name in names.items() if path not in skipped}

    unused = _unused(arrays, used=set(names.values()), ignored=tuple(ignored))
    missing = [name for name in wanted.values() if name not in arrays]
    errors = _Errors()
    for name in unused:
        line = f"{name} {arrays[name].shape}"
        errors.add("in the file, but not in the model", line, name=name, candidates=missing)
    for path, name in wanted.items():
        shape = file_shape(leaves[path].shape, array_layouts[path])
        if name in arrays:
            _check_array(errors, arrays[name], f"{name} {arrays[name].shape}", path, shape)
        else:
            line = f"{name} {shape}, for {path}"
            errors.add("missing in the file", line, name=name, candidates=unused)
    errors.raise_any(
        f"{source} ({len(arrays)} arrays) does not fit the model ({len(wanted)}); "
        "nothing was loaded."
    )

    if skipped:
        log.info("Not taken from %s, as %r says: %s.", source, skip, ", ".join(sorted(skipped)))

    def variable(tree_path, leaf):
        path = jax.tree_util.keystr(tree_path, simple=True, separator="/")
        if path in skipped:
            return leaf
        array = layouts.to_flax(arrays.pop(wanted[path]), array_layouts[path])
        return np.array(array, np.float32, order="C")

    return jax.tree_util.tree_map_with_path(variable, expected)


def unport(variables: Any, *, name_of: NameOf) -> dict[str, np.ndarray]:
    """Returns a model's variables as a file's arrays, contiguous, by their names there.

    Raises ValueError if the key map gives two variables the same name.
    """
    arrays: dict[str, np.ndarray] = {}
    for path, leaf in trees.flatten(variables).items():
        name, layout = name_of(path)
        if name in arrays:
            raise ValueError(f"the key map gives {name} twice, the second time for {path}")
        arrays[name] = np.array(layouts.from_flax(np.asarray(leaf), layout), order="C")
    return arrays


def file_shape(shape: tuple[int, ...], layout: str) -> tuple[int, ...]:
    """Returns the shape that a variable of this shape has in a file."""
    without_content = np.broadcast_to(np.float32(0), shape)
    return layouts.from_flax(without_content, layout).shape


def _skipped(paths: Iterable[str], skip: str | None) -> set[str]:
    if skip is None:
        return set()
    skipped = {path for path in paths if re.search(skip, path)}
    if not skipped:
        modules = sorted({path.rpartition("/")[0] for path in paths})
        nearest = difflib.get_close_matches(skip, modules, n=5, cutoff=0) or modules[:5]
        raise ConfigError(
            f"skip={skip!r} matches no variable of the model. The nearest are {', '.join(nearest)}."
        )
    return skipped


def _unused(arrays: Iterable[str], *, used: set[str], ignored: tuple[str, ...]) -> list[str]:
    """The names in a file that no variable has, except those that are ignored."""
    unused = []
    for name in arrays:
        is_ignored = any(re.fullmatch(pattern, name) for pattern in ignored)
        if name not in used and not is_ignored:
            unused.append(name)
    return unused


def _check_array(
    errors: "_Errors", array: np.ndarray, described: str, path: str, shape: tuple[int, ...]
) -> None:
    """Adds to `errors` what is wrong with an array for the variable at `path`."""
    is_floating = np.issubdtype(array.dtype, np.floating) or array.dtype.name == "bfloat16"
    if array.shape != shape:
        line = f"{described} in the file, {shape} expected, for {path}"
        errors.add("of another shape", line)
    elif not is_floating:
        errors.add("not of floating point", f"{described} {array.dtype}, for {path}")
    elif count := _count_not_finite(array):
        line = f"{described}, for {path}: {count} entries are NaN or infinite in float32"
        errors.add("not finite", line)


def _count_not_finite(array: np.ndarray) -> int:
    with np.errstate(over="ignore"):  # a number too large for float32 becomes infinite
        in_float32 = array.astype(np.float32, copy=False)
    return np.count_nonzero(~np.isfinite(in_float32))


class _Errors:
    """Errors by their kind, each with a line."""

    def __init__(self):
        self.kinds: dict[str, list[str]] = {}
        self.counts: collections.Counter[str] = collections.Counter()

    def add(self, kind: str, line: str, *, name: str = "", candidates: Iterable[str] = ()) -> None:
        """Adds a line, with the candidate most similar to `name` if there is one."""
        self.counts[kind] += 1
        lines = self.kinds.setdefault(kind, [])
        if len(lines) == LINES:
            return
        for nearest in difflib.get_close_matches(name, candidates, n=1, cutoff=0.8):
            line += f"; the nearest left over is {nearest}"
        lines.append(line)

    def raise_any(self, headline: str) -> None:
        """Raises DataError with the headline and all errors, if there are any."""
        if not self.kinds:
            return
        text = [headline]
        for kind, lines in self.kinds.items():
            text.append(f"{self.counts[kind]} {kind}:")
            text += [f"  {line}" for line in lines]
            more = self.counts[kind] - len(lines)
            if more:
                text.append(f"  ... and {more} more")
        raise DataError("\n".join(text))
