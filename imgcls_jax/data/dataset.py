"""What every data source returns: images and labels, with their class names."""

import dataclasses
import functools
import hashlib
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from imgcls_jax.data.lazy_images import Images, LazyImages, chunks
from imgcls_jax.errors import listed

log = logging.getLogger(__name__)

Arrays = tuple[np.ndarray, np.ndarray]  # images and labels of a split, as a file holds them
ArraysBySplit = dict[str, Arrays]

# The splits, with the names that folders, arrays and files have for them.
SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val"),
    "test": ("test", "testing"),
}


def sample_indices(count: int, most: int) -> np.ndarray:
    """Returns at most that many of `count` indices, at random, always the same, and sorted."""
    indices = np.random.default_rng(0).permutation(count)[:most]
    indices.sort()
    return indices


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One split of a data set.

    images: uint8 [N, H, W, C] with 1 or 3 channels, in memory or LazyImages. labels: int32 [N],
    each in [0, len(class_names)). teacher: log probabilities float32 [N, K] that another model
    gives the images, for distillation. corrected: labels int32 [N] of a file of corrections, -1 for
    an image that it leaves out. warnings: sentences on what is doubtful in the source.
    """

    images: Images
    labels: np.ndarray
    class_names: tuple[str, ...]
    teacher: np.ndarray | None = None
    corrected: np.ndarray | None = None
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> "Dataset":
        """Returns the examples at `indices`, in that order."""
        if isinstance(self.images, LazyImages):
            images = self.images.take(indices)
        else:
            images = self.images[indices]
        teacher = self.teacher
        if teacher is not None:
            teacher = teacher[indices]
        corrected = self.corrected
        if corrected is not None:
            corrected = corrected[indices]
        return dataclasses.replace(
            self,
            images=images,
            labels=self.labels[indices],
            teacher=teacher,
            corrected=corrected,
        )

    def correct(self) -> "Dataset":
        """Returns the data set with its corrections made, if there are any."""
        if self.corrected is None:
            return self
        kept = np.flatnonzero(self.corrected >= 0)
        dataset = dataclasses.replace(self, labels=self.corrected, corrected=None)
        if len(kept) == len(self):
            return dataset  # its images need no copy
        return dataset.take(kept)

    def sample(self, most: int) -> "Dataset":
        """Returns at most that many examples, at random and in their order.

        The first ones may be of few classes: folders are read one after the other.
        """
        return self.take(sample_indices(len(self), most))

    def in_memory(self) -> "Dataset":
        """Returns the same data set with all its images read."""
        return dataclasses.replace(self, images=np.asarray(self.images))

    @property
    def targets(self) -> dict[str, np.ndarray]:
        """What a model learns of each example: labels [N], and teacher [N, K] if there is one."""
        targets = {"labels": self.labels}
        if self.teacher is not None:
            targets["teacher"] = self.teacher
        return targets

    @functools.cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of shape, images, labels and class names, whatever the source."""
        progress = "verifying" if isinstance(self.images, LazyImages) else ""
        return self.fingerprint_of(chunks(self.images, progress=progress))

    def fingerprint_of(self, image_chunks: Iterable[np.ndarray]) -> str:
        """Returns the fingerprint, with the images given chunk by chunk."""
        digest = hashlib.sha256(repr((self.images.shape, self.class_names)).encode())
        for chunk in image_chunks:
            digest.update(np.ascontiguousarray(chunk))
        digest.update(np.ascontiguousarray(self.labels, dtype="<i4"))
        return digest.hexdigest()


Datasets = dict[str, Dataset]  # by split


def split_of(name: str) -> str | None:
    """Returns the split that a name stands for, in any case, or None."""
    for split, names in SPLIT_NAMES.items():
        if name.lower() in names:
            return split
    return None


def log_unused(path: str | Path, names: Sequence[str], reason: str) -> None:
    """Logs one line with the names of what is in `path` and is not used, if there is any."""
    if names:
        log.warning("Not used of %s: %s (%s).", path, listed(names), reason)
