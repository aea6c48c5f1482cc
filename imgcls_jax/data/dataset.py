"""What every data source yields: images and labels in memory, with their class names."""

import dataclasses
import functools
import hashlib

import numpy as np


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One split of a data set.

    images: uint8 [N, H, W, C], C being 1 or 3; labels: int32 [N], each in [0, len(class_names)).
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    teacher: np.ndarray | None = None  # log probabilities float32 [N, K] that another model gives the images

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> "Dataset":
        """The examples at `indices`, in that order."""
        teacher = None if self.teacher is None else self.teacher[indices]
        return dataclasses.replace(self, images=self.images[indices], labels=self.labels[indices], teacher=teacher)

    @property
    def targets(self) -> dict[str, np.ndarray]:
        """What is learned of each example: labels [N], and teacher [N, K] where there is one."""
        return {"labels": self.labels} | ({} if self.teacher is None else {"teacher": self.teacher})

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 over shape, images, labels and class names: equal for equal data, whatever its source."""
        digest = hashlib.sha256(repr((self.images.shape, self.class_names)).encode())
        digest.update(np.ascontiguousarray(self.images))
        digest.update(np.ascontiguousarray(self.labels, dtype="<i4"))
        return digest.hexdigest()
