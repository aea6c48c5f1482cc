"""What a step is given: images and targets on the devices, and the batch that it makes of them.

Images are on the device as uint8, whole or, if there are too many, a window of the epoch at a time.
A step gathers its batch by row, transforms it and, if the transform says so, mixes it. An image's row
is its index in the data set if all of it is there, otherwise its position in the window.
"""

from typing import Any

import flax
import jax
import numpy as np

from imgcls_jax.data.dataset import Dataset
from imgcls_jax.data.lazy_images import Images
from imgcls_jax.data.streaming import Streamed
from imgcls_jax.data.transforms import Transform
from imgcls_jax.models.batch_axis import batch_positions, gather_batch
from imgcls_jax.training.parallel import replicate, split_batches

Target = dict[str, jax.Array]  # as of Dataset.targets, of a batch


@flax.struct.dataclass
class Batch:
    """One device's part of a batch, as the model sees it.

    views: float32 [B, H, W, C] each, an independent draw of the same images: one, or as many as the
    objective asks for. targets: pairs of a target and its share of the loss, one or, of mixed images,
    two.
    """

    views: tuple[jax.Array, ...]
    targets: tuple[tuple[Target, Any], ...]

    @property
    def labels(self) -> jax.Array:
        """int32 [B]: what the metrics compare with; of mixed images the first one's."""
        return self.targets[0][0]["labels"]


def make_batch(
    images: jax.Array,
    targets: Target,
    rows: jax.Array,
    indices: jax.Array,
    *,
    transform: Transform,
    num_views: int,
    key: jax.Array,
    epoch: jax.Array,
) -> Batch:
    """Gathers, augments and mixes this device's part of a batch, inside a step.

    Random numbers depend on `key` and the position in the whole batch, not on the number of devices.

    Args:
        images: uint8 [N, H, W, C], all or a window of them.
        targets: of all examples.
        rows: int32 [B], where the images are.
        indices: int32 [B], the examples.
        transform: what is done to the images.
        num_views: how many draws of each image.
        key: of the step.
        epoch: int32 [], from 0.
    """

    def examples(rows, indices, positions, view=0):
        view_key = jax.random.fold_in(key, 2**32 - view) if view else key
        keys = jax.vmap(jax.random.fold_in, (None, 0))(view_key, positions)
        return transform(images[rows], keys, examples=indices, epoch=epoch), keys

    def target_of(indices):
        return jax.tree.map(lambda column: column[indices], targets)

    positions = batch_positions(len(indices))
    x, keys = examples(rows, indices, positions)
    views = [x]
    for view in range(1, num_views):
        views.append(examples(rows, indices, positions, view)[0])
    target = target_of(indices)
    if not transform.mix:
        return Batch(tuple(views), ((target, 1.0),))

    # An example is mixed with the one as far from the other end of the whole batch.
    all_rows = gather_batch(rows)
    all_indices = gather_batch(indices)
    partners = len(all_indices) - 1 - positions
    partner_x, _ = examples(all_rows[partners], all_indices[partners], partners)
    mix_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, len(transform.ops))
    views[0], share = transform.mix(x, partner_x, mix_keys)
    partner_target = target_of(all_indices[partners])
    return Batch(tuple(views), ((target, share), (partner_target, 1 - share)))


def place(
    dataset: Dataset, *, budget: float | None = None
) -> tuple[jax.Array | Streamed, dict[str, jax.Array]]:
    """Returns images, as `place_images` does, and targets, whole on every device."""
    return place_images(dataset.images, budget=budget), replicate(dataset.targets)


def place_images(images: Images, *, budget: float | None = None) -> jax.Array | Streamed:
    """Puts images uint8 [N, H, W, C] whole on every device.

    budget: bytes of images that a device may hold, if not all of them fit: they are then streamed.
    """
    if budget is None:
        return replicate(np.asarray(images))
    return Streamed(images, budget)


class Feed:
    """Gives an epoch's steps their images: `train(state, *feed.take(min(wanted, feed.ready())))`.

    data: images and targets as of `place`. batches: those left of the epoch, indices int32 [k, B].
    most: steps of a dispatch at most.
    """

    def __init__(self, data: tuple[jax.Array | Streamed, Any], batches: np.ndarray, *, most: int):
        images, self._targets = data
        self._is_streamed = isinstance(images, Streamed)
        if self._is_streamed:
            self._windows = images.windows(batches, place=replicate, most=most)
        else:
            self._windows = iter([(images, batches)])
        self._batches = batches
        self._most = most
        self._images = None  # the window on the devices
        self._rows = batches[:0]  # what is left of its rows

    def ready(self) -> int:
        """Returns how many steps the next dispatch can have. Waits for a window if none is left."""
        if not len(self._rows):
            self._images, self._rows = next(self._windows)
        return min(len(self._rows), self._most)

    def take(self, count: int) -> tuple[tuple[jax.Array, Any], np.ndarray, int, np.ndarray | None]:
        """Returns data, indices, count and rows of the next `count` steps, as TrainSteps takes them."""
        data = (self._images, self._targets)
        indices = split_batches(self._batches[:count], self._most)
        rows = split_batches(self._rows[:count], self._most) if self._is_streamed else None
        self._batches = self._batches[count:]
        self._rows = self._rows[count:]
        if not len(self._rows):
            self._images = None  # its memory is free before the next window is looked for
        return data, indices, count, rows
