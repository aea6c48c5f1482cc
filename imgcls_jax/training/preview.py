"""A look at training images as the model sees them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from imgcls_jax.data.batches import epoch_batches
from imgcls_jax.data.dataset import Dataset
from imgcls_jax.data.image_ops import Bgr, Normalize
from imgcls_jax.data.transforms import Transform, parse

IMAGES, DRAWS = 8, 7


@dataclasses.dataclass(frozen=True)
class Shown:
    """indices int [N]: the examples; images uint8 [N, D, H, W, C]: D draws of each, in old colours; words on them."""

    indices: np.ndarray
    images: np.ndarray
    words: str


def draw(config: ConfigDict, train: Dataset) -> Shown:
    """Some examples of the first batch through `config.data.transform`, with mixing if it mixes."""
    transform = parse(config.data.transform)
    size = min(config.train.batch_size, len(train))
    batch = epoch_batches(len(train), size, seed=config.seed, epoch=0)[0]

    @jax.jit
    def see(key, epoch):
        keys = jax.random.split(key, size)
        x = transform(train.images[batch], keys, examples=jnp.asarray(batch), epoch=epoch)
        return transform.mix(x, x[::-1], keys)[0] if transform.mix else x

    draws = [
        np.asarray(see(key, epoch))
        for epoch, key in enumerate(jax.random.split(jax.random.key(config.seed), DRAWS))
    ]
    x = draws[0]
    words = (
        f"A batch as the model sees it: {'x'.join(map(str, x.shape))}, values from {x.min():.3f} to {x.max():.3f}, "
        f"mean {x.mean():.3f}, standard deviation {x.std():.3f}."
    )
    images = np.stack([_as_pixels(transform, x[:IMAGES]) for x in draws], axis=1)
    return Shown(batch[:IMAGES], images, words)


def _as_pixels(transform: Transform, x: np.ndarray) -> np.ndarray:
    """uint8 of float32 [N, H, W, C], with what the transform did to the values as a whole undone."""
    for op in reversed(transform.ops):
        if isinstance(op, Normalize):
            x = x * np.asarray(op.std, np.float32) + np.asarray(op.mean, np.float32)
        if isinstance(op, Bgr):
            x = x[..., ::-1]
    return (x.clip(0, 1) * 255).round().astype(np.uint8)
