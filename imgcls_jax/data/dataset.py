"""What every data source yields: images and labels, with their class names."""

import dataclasses
import functools
import hashlib
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from imgcls_jax.data.lazy_images import Images, LazyImages, parts

log = logging.getLogger(__name__)

# The splits, with the names that folders, arrays and files have for them.
SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val"),
    "test": ("test", "testing"),
}
MOST_NAMED = 5  # things that a line names, of those that are not used


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One split of a data set.

    images: uint8 [N, H, W, C], C being 1 or 3, in memory or, where there are too many, LazyImages; labels: int32 [N],
    each in [0, len(class_names)).
    """

    images: Images
    labels: np.ndarray
    class_names: tuple[str, ...]
    teacher: np.ndarray | None = (
        None  # log probabilities float32 [N, K] that another model gives the images
    )

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> "Dataset":
        """The examples at `indices`, in that order."""
        teacher = None if self.teacher is None else self.teacher[indices]
        images = (
            self.images.take(indices)
            if isinstance(self.images, LazyImages)
            else self.images[indices]
        )
        return dataclasses.replace(
            self, images=images, labels=self.labels[indices], teacher=teacher
        )

    def in_memory(self) -> "Dataset":
        """The same with all its images read."""
        return dataclasses.replace(self, images=np.asarray(self.images))

    @property
    def targets(self) -> dict[str, np.ndarray]:
        """What is learned of each example: labels [N], and teacher [N, K] where there is one."""
        return {"labels": self.labels} | ({} if self.teacher is None else {"teacher": self.teacher})

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 over shape, images, labels and class names: equal for equal data, whatever its source."""
        return self.fingerprint_of(
            parts(self.images, "verifying" if isinstance(self.images, LazyImages) else "")
        )

    def fingerprint_of(self, images: Iterable[np.ndarray]) -> str:
        """The fingerprint, of the images as they come, part by part."""
        digest = hashlib.sha256(repr((self.images.shape, self.class_names)).encode())
        for part in images:
            digest.update(np.ascontiguousarray(part))
        digest.update(np.ascontiguousarray(self.labels, dtype="<i4"))
        return digest.hexdigest()


def split_of(name: str) -> str | None:
    """The split that a name stands for, in capitals or not; None for any other name."""
    return next((split for split, names in SPLIT_NAMES.items() if name.lower() in names), None)


def tell_unused(where: Path, names: Sequence[str], why: str) -> None:
    """Says in a line what is there and is not used, if anything."""
    if names:
        log.warning("Not used of %s: %s (%s).", where, listed(names), why)


def listed(names: Sequence[str]) -> str:
    """The names in a line, as many as a line can take."""
    more = f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
