"""Images that stay on the host: only a few batches at a time are on the devices."""

import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from imgcls_jax.data.lazy_images import Images
from imgcls_jax.errors import ConfigError, shape_text

T = TypeVar("T")

MAX_WINDOW = 256 * 2**20  # bytes: a larger window is not faster


@dataclasses.dataclass(frozen=True)
class Streamed:
    """Images uint8 [N, H, W, C] of which at most `budget` bytes are on a device at any time."""

    images: Images
    budget: float

    def __len__(self) -> int:
        return len(self.images)

    def steps(self, batch_size: int) -> int:
        """Returns the number of batches in a window."""
        return steps_in_window(self.images.shape[1:], batch_size, self.budget)

    def windows(
        self, batches: np.ndarray, *, place: Callable[[np.ndarray], T], most: int
    ) -> Iterator[tuple[T, np.ndarray]]:
        """Yields the images of the batches in order, a window of some batches at a time.

        batches: int32 [k, B]. place: puts the images of a window, uint8 [steps * B, H, W, C], on
        the devices; those of the last window may be filled up with zeros. most: batches in a
        window, if the budget has room for as many.

        Yields what `place` returns, and the rows in it of the window's batches, int32 [k', B].
        While one window is used, a thread reads and places the next one.
        """
        steps = min(self.steps(batches.shape[1]), most)

        def read_window(start: int) -> tuple[T, np.ndarray]:
            window = batches[start : start + steps]
            return place(self._read(window, steps=steps)), _rows(window)

        starts = range(0, len(batches), steps)
        with ThreadPoolExecutor(1, "prefetch") as thread:
            following = thread.submit(read_window, 0)
            for start in starts:
                current = following.result()
                following = None
                if start + steps < len(batches):
                    following = thread.submit(read_window, start + steps)
                yield current
                del current  # frees its memory for the window after the next

    def _read(self, window: np.ndarray, *, steps: int) -> np.ndarray:
        """Returns the images of a window, filled up to `steps` batches.

        All windows have one size, so that one compiled program serves them.
        """
        images = self.images[window.reshape(-1)]
        missing = steps * window.shape[1] - len(images)
        if missing == 0:
            return images
        padding = np.zeros((missing, *images.shape[1:]), np.uint8)
        return np.concatenate([images, padding])


def _rows(window: np.ndarray) -> np.ndarray:
    return np.arange(window.size, dtype=np.int32).reshape(window.shape)


def steps_in_window(image_shape: tuple[int, ...], batch_size: int, budget: float) -> int:
    """Returns the number of batches in a window, so that two windows fit the budget in bytes.

    Raises ConfigError if not even two batches fit.
    """
    batch_bytes = batch_size * int(np.prod(image_shape))
    if 2 * batch_bytes > budget:
        raise ConfigError(
            f"config.data.device_bytes is {budget:,.0f} bytes, and the data is larger: a batch, "
            f"{batch_size} images of {shape_text(image_shape)}, and the next one need "
            f"{2 * batch_bytes:,}. Give that much, or smaller batches (train.batch_size, "
            "train.eval_batch_size)."
        )
    return int(max(min(budget / 2, MAX_WINDOW) // batch_bytes, 1))
