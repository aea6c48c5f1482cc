"""Images that stay where they are, in files, until they are asked for: data larger than the memory."""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
from tqdm import tqdm

PART = 64 * 2**20  # bytes of images that are looked at together


@dataclasses.dataclass(frozen=True)
class LazyImages:
    """Images uint8 [N, H, W, C] that are read when they are indexed: by a number, a slice, or a list or array of them.

    read: numbers int64 [n] -> those images uint8 [n, H, W, C]; image: (H, W, C); numbers: of the N images, int64.
    """

    read: Callable[[np.ndarray], np.ndarray]
    image: tuple[int, int, int]
    numbers: np.ndarray

    dtype = np.dtype(np.uint8)
    ndim = 4

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.numbers), *self.image

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, key) -> np.ndarray:
        numbers = self.numbers[key]
        return self.read(numbers) if numbers.ndim else self.read(numbers[None])[0]

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)

    def take(self, indices: np.ndarray) -> "LazyImages":
        """The images at `indices`, still not read."""
        return dataclasses.replace(self, numbers=self.numbers[indices])


Images = np.ndarray | LazyImages


def parts(images: Images, what: str = "") -> Iterator[np.ndarray]:
    """All the images, in order, PART bytes at a time. what: is done with them, for a progress bar; "" for none."""
    count = max(PART // max(images.nbytes // max(len(images), 1), 1), 1)
    with tqdm(
        total=len(images), desc=what, unit="image", leave=False, disable=None if what else True
    ) as bar:
        for start in range(0, len(images), count):
            part = images[start : start + count]
            yield part
            bar.update(len(part))
