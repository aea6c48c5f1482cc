"""Parameter trees by path: flatten, split, join, count, hash."""

import difflib
import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np


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
    return jax.tree.map(lambda a, b: b if a is None else a, one, other, is_leaf=lambda leaf: leaf is None)


def nearest(pattern: str, paths: Iterable[str], *, count: int = 3) -> list[str]:
    """The paths that look most like the regular expression: for an error where it is found in none."""
    return difflib.get_close_matches(pattern, list(paths), n=count, cutoff=0.0)


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
