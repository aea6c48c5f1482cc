"""Images that stay in their files until they are asked for, for data larger than the memory."""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
from tqdm import tqdm

CHUNK_BYTES = 64 * 2**20  # bytes of images that are processed at a time


@dataclasses.dataclass(frozen=True)
class LazyImages:
    """Images uint8 [N, H, W, C] that are read when they are indexed.

    They take the keys that arrays take: a number, a slice, a list or array of numbers or booleans.

    read: returns the images uint8 [n, H, W, C] of indices int64 [n]. image_shape: (H, W, C).
    indices: int64 [N], of the images in their source.
    """

    read: Callable[[np.ndarray], np.ndarray]
    image_shape: tuple[int, int, int]
    indices: np.ndarray

    dtype = np.dtype(np.uint8)
    ndim = 4

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.indices), *self.image_shape

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key) -> np.ndarray:
        indices = self.indices[key]
        if indices.ndim == 0:
            return self.read(indices[None])[0]
        return self.read(indices)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)

    def take(self, indices: np.ndarray) -> "LazyImages":
        """Returns the images at `indices` without reading them."""
        return dataclasses.replace(self, indices=self.indices[indices])


Images = np.ndarray | LazyImages


def chunks(images: Images, *, progress: str = "") -> Iterator[np.ndarray]:
    """Yields all the images in order, CHUNK_BYTES at a time.

    progress: the text of a progress bar, which is shown on terminals; "" shows none.
    """
    image_bytes = images.nbytes // max(len(images), 1)
    size = max(CHUNK_BYTES // max(image_bytes, 1), 1)
    disable = None if progress else True  # None shows the bar on terminals only
    bar = tqdm(total=len(images), desc=progress, unit="image", leave=False, disable=disable)
    with bar:
        for start in range(0, len(images), size):
            chunk = images[start : start + size]
            yield chunk
            bar.update(len(chunk))
