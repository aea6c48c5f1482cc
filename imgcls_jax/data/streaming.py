"""Images that stay on the host while a model sees them all: a few batches at a time lie on the devices."""

import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from imgcls_jax.data.checks import shape_text
from imgcls_jax.data.lazy_images import Images
from imgcls_jax.errors import ConfigError

T = TypeVar("T")

WINDOW = 256 * 2**20  # bytes: a larger window would make nothing faster


@dataclasses.dataclass(frozen=True)
class Streamed:
    """Images uint8 [N, H, W, C] of which at most `budget` bytes lie on a device at any time."""

    images: Images
    budget: float

    def __len__(self) -> int:
        return len(self.images)

    def steps(self, batch_size: int) -> int:
        """The batches of a window."""
        return steps_in_window(self.images.shape[1:], batch_size, self.budget)

    def windows(
        self, batches: np.ndarray, *, place: Callable[[np.ndarray], T], most: int
    ) -> Iterator[tuple[T, np.ndarray]]:
        """The images of the batches, int32 [k, B], in order and `most` batches at a time or as many as the budget has.

        Yields what `place` makes of such a window, uint8 [steps * B, H, W, C] of which the last one may not be full,
        and the rows in it of its batches, int32 [k', B]. While one is used a thread reads and places the next.
        """
        size = batches.shape[1]
        steps = min(self.steps(size), most)

        def window(start: int) -> tuple[T, np.ndarray]:
            chosen = batches[start : start + steps]
            images = self.images[chosen.reshape(-1)]
            if missing := steps * size - len(
                images
            ):  # all windows have one size, so that one program serves
                images = np.concatenate([images, np.zeros((missing, *images.shape[1:]), np.uint8)])
            return place(images), np.arange(chosen.size, dtype=np.int32).reshape(chosen.shape)

        with ThreadPoolExecutor(1, "prefetch") as thread:
            ahead = thread.submit(window, 0)
            for start in range(0, len(batches), steps):
                now = ahead.result()
                ahead = (
                    thread.submit(window, start + steps) if start + steps < len(batches) else None
                )
                yield now
                del now  # the window after the next takes its place


def steps_in_window(image: tuple[int, ...], batch_size: int, budget: float) -> int:
    """How many batches a window has, so that two windows fit the budget. Raises ConfigError where not even one does."""
    batch = batch_size * int(np.prod(image))
    if 2 * batch > budget:
        raise ConfigError(
            f"config.data.device_budget is {budget:,.0f} bytes, and the data is larger: {batch_size} images of "
            f"{shape_text(image)}, a batch, and the batch after it need {2 * batch:,}. Give that much, or smaller "
            "batches (train.batch_size, train.eval_batch_size)."
        )
    return int(max(min(budget / 2, WINDOW) // batch, 1))
