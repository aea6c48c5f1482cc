"""The strict renaming of a file's arrays into a model's variables, and back: nothing is guessed, or left out unsaid."""

import collections
import difflib
import logging
import re
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any

import jax
import numpy as np

from imgcls_jax import trees
from imgcls_jax.errors import ConfigError, DataError
from imgcls_jax.pretrained import layouts

log = logging.getLogger(__name__)

NameOf = Callable[[str], tuple[str, str]]  # a variable's path -> its name and layout in the file
Variables = dict[str, Any]
LINES = (
    20  # of each kind of error, at most; what is wrong with all names looks the same after a few
)


def port(
    arrays: MutableMapping[str, np.ndarray],
    expected: Any,
    *,
    name_of: NameOf,
    ignored: Iterable[str] = (),
    skip: str | None = None,
    source: str = "The file",
) -> Variables:
    """The arrays as a model's variables: the nested dicts of `expected`, leaves float32.

    expected: a tree of the model's variables ({"params": ..., "batch_stats": ...}) or of their shapes.
    name_of: the key map. ignored: regexes of whole names in the file that are left out on purpose.
    skip: regex of variable paths that are not taken from the file; their leaves are those of `expected`.
    source: what to call the file in messages.
    `arrays` is emptied on the way, so that no more than one array is in memory twice.
    Raises DataError that lists all the missing, unused, misshaped and unusable arrays together, and ConfigError where
    `skip` matches nothing.
    """
    leaves = trees.flatten(expected)
    skipped = _skipped(leaves, skip)
    places = {path: name_of(path) for path in leaves}
    wanted = {path: name for path, (name, _) in places.items() if path not in skipped}

    known = {name for name, _ in places.values()}
    unused = [
        name
        for name in arrays
        if name not in known and not any(re.fullmatch(pattern, name) for pattern in ignored)
    ]
    missing = [name for name in wanted.values() if name not in arrays]
    errors = _Errors()
    for name in unused:
        errors.add(
            "in the file, but not in the model",
            f"{name} {arrays[name].shape}",
            near=(name, missing),
        )
    for path, name in wanted.items():
        layout = places[path][1]
        shape = file_shape(leaves[path].shape, layout)
        if name not in arrays:
            errors.add("missing in the file", f"{name} {shape}, for {path}", near=(name, unused))
            continue
        array = arrays[name]
        if array.shape != shape:
            errors.add(
                "of another shape",
                f"{name} {array.shape} in the file, {shape} expected, for {path}",
            )
        elif not (np.issubdtype(array.dtype, np.floating) or array.dtype.name == "bfloat16"):
            errors.add("not of floating point", f"{name} {array.shape} {array.dtype}, for {path}")
        elif bad := _not_finite(array):
            errors.add(
                "not finite",
                f"{name} {array.shape}, for {path}: {bad} entries are NaN or infinite in float32",
            )
    errors.raise_any(
        f"{source} ({len(arrays)} arrays) does not fit the model ({len(wanted)}); nothing was loaded."
    )

    if skipped:
        log.info("Not taken from %s, as %r says: %s.", source, skip, ", ".join(sorted(skipped)))
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: (
            leaf
            if (name := jax.tree_util.keystr(path, simple=True, separator="/")) in skipped
            else _float32(layouts.to_flax(arrays.pop(wanted[name]), places[name][1]))
        ),
        expected,
    )


def unport(variables: Any, *, name_of: NameOf) -> dict[str, np.ndarray]:
    """The way back: a model's variables as the arrays of a file, contiguous, by their names there."""
    arrays: dict[str, np.ndarray] = {}
    for path, leaf in trees.flatten(variables).items():
        name, layout = name_of(path)
        if name in arrays:
            raise ValueError(f"the key map gives {name} twice, the second time for {path}")
        arrays[name] = np.array(layouts.from_flax(np.asarray(leaf), layout), order="C")
    return arrays


def file_shape(shape: tuple[int, ...], layout: str) -> tuple[int, ...]:
    """The shape in a file of a variable of this shape."""
    return layouts.from_flax(np.broadcast_to(np.float32(0), shape), layout).shape


def _not_finite(array: np.ndarray) -> int:
    with np.errstate(
        over="ignore"
    ):  # what is too large for float32 becomes infinite, and is counted
        return np.count_nonzero(~np.isfinite(array.astype(np.float32, copy=False)))


def _float32(array: np.ndarray) -> np.ndarray:
    return np.array(array, np.float32, order="C")


def _skipped(leaves: Iterable[str], skip: str | None) -> set[str]:
    if skip is None:
        return set()
    found = {path for path in leaves if re.search(skip, path)}
    if not found:
        modules = sorted({path.rpartition("/")[0] for path in leaves})
        near = difflib.get_close_matches(skip, modules, n=5, cutoff=0) or modules[:5]
        raise ConfigError(
            f"skip={skip!r} matches no variable of the model. The nearest are {', '.join(near)}."
        )
    return found


class _Errors:
    """Kinds of errors, each with its lines."""

    def __init__(self):
        self.kinds: dict[str, list[str]] = {}
        self.counts: collections.Counter[str] = collections.Counter()

    def add(self, kind: str, line: str, near: tuple[str, list[str]] | None = None) -> None:
        """`near`: a name and those left over on the other side, the most similar of which is told."""
        self.counts[kind] += 1
        lines = self.kinds.setdefault(kind, [])
        if len(lines) < LINES:
            found = difflib.get_close_matches(*near, n=1, cutoff=0.8) if near else []
            lines.append(line + "".join(f"; the nearest left over is {name}" for name in found))

    def raise_any(self, headline: str) -> None:
        if not self.kinds:
            return
        text = [headline]
        for kind, lines in self.kinds.items():
            more = self.counts[kind] - len(lines)
            text += [f"{self.counts[kind]} {kind}:", *(f"  {line}" for line in lines)]
            text += [f"  ... and {more} more"] * (more > 0)
        raise DataError("\n".join(text))
