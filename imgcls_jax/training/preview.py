"""A look at training images as the model sees them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from imgcls_jax.data.batches import balanced_batches
from imgcls_jax.data.dataset import Dataset
from imgcls_jax.data.image_ops import Bgr, Normalize
from imgcls_jax.data.transforms import Transform, parse
from imgcls_jax.errors import shape_text

NUM_IMAGES = 8
NUM_DRAWS = 7


@dataclasses.dataclass(frozen=True)
class Preview:
    """Some training images after the transform.

    indices: int [N], the examples. images: uint8 [N, D, H, W, C], D draws of each in their colours
    before normalisation. words: on the batch.
    """

    indices: np.ndarray
    images: np.ndarray
    words: str


def draw(config: ConfigDict, train: Dataset) -> Preview:
    """Returns examples of the first batch after `config.data.transform`, mixed if it mixes."""
    transform = parse(config.data.transform)
    settings = config.train
    size = min(settings.batch_size, len(train))
    batch, *_ = balanced_batches(
        train.labels, size, balance=settings.balanced_sampling, seed=config.seed, epoch=0
    )

    @jax.jit
    def augment(key, epoch):
        keys = jax.random.split(key, size)
        x = transform(train.images[batch], keys, examples=jnp.asarray(batch), epoch=epoch)
        if transform.mix:
            x, _ = transform.mix(x, x[::-1], keys)
        return x

    draws = []
    for epoch, key in enumerate(jax.random.split(jax.random.key(config.seed), NUM_DRAWS)):
        draws.append(np.asarray(augment(key, epoch)))
    first = draws[0]
    shape = shape_text(first.shape)
    words = (
        f"A batch as the model sees it: {shape}, values from {first.min():.3f} to {first.max():.3f}, "
        f"mean {first.mean():.3f}, standard deviation {first.std():.3f}."
    )
    images = [_as_pixels(transform, x[:NUM_IMAGES]) for x in draws]
    return Preview(batch[:NUM_IMAGES], np.stack(images, axis=1), words)


def _as_pixels(transform: Transform, x: np.ndarray) -> np.ndarray:
    """Returns uint8 pixels of float32 [N, H, W, C], with normalisation and channel order undone."""
    for op in reversed(transform.ops):
        if isinstance(op, Normalize):
            x = x * np.asarray(op.std, np.float32) + np.asarray(op.mean, np.float32)
        if isinstance(op, Bgr):
            x = x[..., ::-1]
    return (x.clip(0, 1) * 255).round().astype(np.uint8)
