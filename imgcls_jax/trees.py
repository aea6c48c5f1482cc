"""Parameter trees by path: flatten, find, split, join, count, hash."""

import difflib
import hashlib
import re
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from imgcls_jax.errors import ConfigError


def flatten(tree: Any) -> dict[str, Any]:
    """The leaves by path: {"conv_0/kernel": array, ...}, in the tree's own order."""
    return {_text(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _text(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def split(tree: Any, chosen: Callable[[str], bool]) -> tuple[Any, Any]:
    """Two trees of the same structure: the leaves whose path is `chosen`, and the others; None stands for the rest."""

    def part(wanted: bool) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: leaf if chosen(_text(path)) == wanted else None, tree
        )

    return part(True), part(False)


def join(one: Any, other: Any) -> Any:
    """The tree whose parts `split` gave."""
    return jax.tree.map(
        lambda a, b: b if a is None else a, one, other, is_leaf=lambda leaf: leaf is None
    )


def matching(option: str, patterns: Iterable[str], paths: Iterable[str]) -> list[str]:
    """The paths in which any of the regular expressions is found; `option` is the config's that has them.

    Raises ConfigError for one that is found in no path, with the paths most like it, and for what is none.
    """
    patterns, paths = list(patterns), list(paths)
    for pattern in patterns:
        try:
            found = any(re.search(pattern, path) for path in paths)
        except re.error as error:
            raise ConfigError(
                f"{option}: {pattern!r} is no regular expression ({error})."
            ) from error
        if not found:
            near = ", ".join(difflib.get_close_matches(pattern, paths, n=3, cutoff=0.0))
            raise ConfigError(
                f"{option}: {pattern!r} is found in no parameter's path. The nearest are: {near}."
            )
    return [path for path in paths if any(re.search(pattern, path) for pattern in patterns)]


def count(tree: Any) -> int:
    """Number of entries in all leaves (arrays, or shapes of arrays)."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def digest(tree: Any) -> str:
    """SHA-256 over paths, types, shapes and bytes of all leaves: equal only for trees equal to the bit."""
    sha = hashlib.sha256()
    for path, leaf in flatten(tree).items():
        array = np.asarray(leaf)
        sha.update(f"{path} {array.dtype} {array.shape}\n".encode())
        sha.update(np.ascontiguousarray(array))
    return sha.hexdigest()
