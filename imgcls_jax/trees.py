"""Parameter trees by path: count, hash."""

import hashlib
from typing import Any

import jax
import numpy as np


def flatten(tree: Any) -> dict[str, Any]:
    """The leaves by path: {"conv_0/kernel": array, ...}, in the tree's own order."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


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
