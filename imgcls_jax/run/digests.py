"""Digests of a run's training and validation images, by which copies of them are known again."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from imgcls_jax import files, foreign
from imgcls_jax.run import schema
from imgcls_jax.run.folder import RunFolder

DIGESTS = "image_digests.npz"
SPLITS = ("train", "validation")  # whose images training has used


def write(run: RunFolder, digests: Mapping[str, np.ndarray]) -> None:
    """Writes image_digests.npz, from the digests, uint64 [N], of the images of all splits."""
    arrays = {split: digests[split] for split in SPLITS}
    files.write_npz(run.path / DIGESTS, **arrays)


def read(run: RunFolder) -> dict[str, np.ndarray]:
    """Returns the digests, uint64 [N], of the training and validation images, by split.

    Empty in folders of versions that did not keep them, and of published runs. Raises RunError if
    the file is damaged.
    """
    file = run.path / DIGESTS
    if not file.exists():
        return {}
    run.check_plain()
    digests = _read_arrays(file)
    for array in digests.values():
        if array.dtype != np.uint64 or array.ndim != 1:
            raise schema.damaged(file, "it should hold digests of 8 bytes")
    return digests


def _read_arrays(file: Path) -> dict[str, np.ndarray]:
    try:
        with foreign.open_npz(file) as arrays:
            return {split: arrays[split] for split in SPLITS}
    except Exception as error:  # a damaged file can raise nearly anything
        raise schema.damaged(file, error) from error
