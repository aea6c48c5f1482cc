"""Parameter trees by path: flatten, split, join, match, count, hash."""

import difflib
import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from imgcls_jax.errors import ConfigError


def flatten(tree: Any) -> dict[str, Any]:
    """Returns the leaves by path, {"conv_0/kernel": array, ...}, in the tree's own order."""
    return {_path_text(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _path_text(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def split(tree: Any, predicate: Callable[[str], bool]) -> tuple[Any, Any]:
    """Splits a tree in two of the same structure: leaves whose path has the predicate, and others.

    In each of the two None replaces the leaves of the other.
    """

    def select(wanted: bool) -> Any:
        def leaf_or_none(path, leaf):
            if predicate(_path_text(path)) == wanted:
                return leaf
            return None

        return jax.tree_util.tree_map_with_path(leaf_or_none, tree)

    return select(True), select(False)


def join(first: Any, second: Any) -> Any:
    """Returns the tree that `split` split into these two."""

    def pick(left, right):
        if left is None:
            return right
        return left

    return jax.tree.map(pick, first, second, is_leaf=lambda leaf: leaf is None)


def matching(option: str, patterns: Sequence[str], paths: Sequence[str]) -> list[str]:
    """Returns the paths in which any of the regular expressions is found.

    option: the config option with the patterns, for errors. Raises ConfigError for a pattern that
    is no regular expression or is found in no path; the message lists the nearest paths.
    """
    matches: set[str] = set()
    for pattern in patterns:
        try:
            matched = [path for path in paths if re.search(pattern, path)]
        except re.error as error:
            raise ConfigError(
                f"{option}: {pattern!r} is no regular expression ({error})."
            ) from error
        if not matched:
            near = ", ".join(difflib.get_close_matches(pattern, paths, n=3, cutoff=0.0))
            raise ConfigError(
                f"{option}: {pattern!r} is found in no parameter's path. The nearest are: {near}."
            )
        matches.update(matched)
    return [path for path in paths if path in matches]


def count(tree: Any) -> int:
    """Returns the number of entries in all leaves, which are arrays or shapes of arrays."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def digest(tree: Any) -> str:
    """Returns the SHA-256 of paths, dtypes, shapes and bytes of all leaves.

    It is equal only for trees that are equal to the bit.
    """
    sha = hashlib.sha256()
    for path, leaf in flatten(tree).items():
        array = np.asarray(leaf)
        sha.update(f"{path} {array.dtype} {array.shape}\n".encode())
        sha.update(np.ascontiguousarray(array))
    return sha.hexdigest()
