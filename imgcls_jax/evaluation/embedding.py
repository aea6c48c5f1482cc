"""Vectors of images that neighbours and a linear classifier of an audit are computed on.

They are the features of a run's best model, or of pretrained weights, or, where there are neither,
the responses to small patches of the images themselves (Coates and Ng, "Learning feature
representations with k-means", 2012, without the clustering), which no label has been used for.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from ml_collections import ConfigDict
from tqdm import tqdm

from imgcls_jax import pretrained, trees
from imgcls_jax.data.batches import filled_batches
from imgcls_jax.data.dataset import Dataset
from imgcls_jax.data.lazy_images import Images
from imgcls_jax.data.transforms import Transform
from imgcls_jax.evaluation.predict import Predictor
from imgcls_jax.run.folder import RunFolder
from imgcls_jax.training import dispatch, features, parallel
from imgcls_jax.training.initializer import Initializer
from imgcls_jax.training.setup import build_model

MAX_SIDE = 32  # pixels to which larger images are shrunk before
PATCH = 5  # pixels of a patch's side
NUM_PATCHES = 128
GRID = 3  # a patch's responses are averaged in so many rows and columns of an image
BATCH_SIZE = 256
WHITENING = 0.1  # is added to the variances of patches, as a share of their mean variance


def choose(
    config: ConfigDict, images: Images, *, run: RunFolder | None = None
) -> tuple[Callable[[Dataset], np.ndarray], str]:
    """Returns a function from a data set to vectors float32 [N, F], and what they are, in words.

    config: of what is audited, or of the run. images: those that patches are taken from. run: whose
    features are taken. Without it `config.model.pretrained` decides.
    """
    if run is not None:
        return functools.partial(of_run, run), f"features of {run.name}"
    if config.model.get("pretrained"):
        words = f"features of the weights {config.model.pretrained}"
        return functools.partial(of_weights, config), words
    return by_patches(images), f"responses to {NUM_PATCHES} patches of the images"


def of_run(run: RunFolder, dataset: Dataset) -> np.ndarray:
    """Returns the features of a run's best model, float32 [N, F]."""
    predictor = Predictor(run)
    config = run.config
    config.adapt.feature_folder = ""  # that of the run may be a stranger's choice
    return _of_model(config, predictor.model, predictor.transform, predictor.variables, dataset)


def of_weights(config: ConfigDict, dataset: Dataset) -> np.ndarray:
    """Returns the features of the weights that `config.model.pretrained` names, float32 [N, F]."""
    model, transform = build_model(config, num_classes=len(dataset.class_names))
    image = jax.eval_shape(transform, dataset.images[:1])
    initializer = Initializer(model, image, seed=config.seed)
    loaded = pretrained.initialize(config, initializer.shapes, class_names=dataset.class_names)
    return _of_model(config, model, transform, initializer.fill(loaded), dataset)


def _of_model(
    config: ConfigDict, model: nn.Module, transform: Transform, variables: dict, dataset: Dataset
) -> np.ndarray:
    image = jax.eval_shape(transform, dataset.images[:1])
    encoder = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, method="encode"), image)
    embed = dispatch.make_predict(
        model,
        transform,
        batch_size=config.train.eval_batch_size,
        method="encode",
        winograd=config.train.winograd,
        backend=config.train.parallel,
    )
    paths = frozenset(trees.flatten(encoder.get("params", {})))
    vectors, _ = features.compute(config, embed, parallel.replicate(variables), paths, dataset)
    return vectors


def by_patches(images: Images, *, seed: int = 0) -> Callable[[Dataset], np.ndarray]:
    """Returns a function from a data set to its images' responses to patches of `images`.

    images: uint8 [N, H, W, C]. It returns float32 [N, 2 * NUM_PATCHES * GRID**2]: the part of a
    convolution above zero and that below it, averaged over the cells of a GRID x GRID grid. The
    patches are whitened and of unit length; images are shrunk to MAX_SIDE before.
    """
    filters = _filters(images, seed=seed)
    respond = jax.jit(_respond)

    def embed(dataset: Dataset) -> np.ndarray:
        vectors = []
        batches = filled_batches(len(dataset), BATCH_SIZE)
        for batch in tqdm(batches, "features", unit="batch", leave=False, disable=None):
            vectors.append(np.asarray(respond(dataset.images[batch], filters)))
        return np.concatenate(vectors)[: len(dataset)]

    return embed


def _filters(images: Images, *, seed: int) -> np.ndarray:
    """Returns the filters float32 [PATCH, PATCH, C, NUM_PATCHES] that whitened patches make."""
    generator = np.random.default_rng(seed)
    patches = _draw_patches(images, 20 * NUM_PATCHES, generator)
    patches -= patches.mean(1, keepdims=True)
    variances, axes = np.linalg.eigh(np.cov(patches, rowvar=False))
    variances += WHITENING * variances.mean()
    whiten = axes / np.sqrt(variances) @ axes.T
    whitened = patches[:NUM_PATCHES] @ whiten
    norms = np.linalg.norm(whitened, axis=1, keepdims=True)
    whitened /= np.maximum(norms, 1e-6)
    filters = whitened @ whiten
    filters -= filters.mean(1, keepdims=True)  # so a patch's brightness does not count
    channels = images.shape[-1]
    side = round((patches.shape[1] / channels) ** 0.5)
    return filters.T.reshape(side, side, channels, NUM_PATCHES).astype(np.float32)


def _draw_patches(images: Images, count: int, generator: np.random.Generator) -> np.ndarray:
    """Returns patches at random places of random images, float64 [count, PATCH * PATCH * C]."""
    examples = np.sort(generator.integers(len(images), size=count))
    num_parts = -(-count // BATCH_SIZE)
    parts = [_shrink(images[part]) for part in np.array_split(examples, num_parts)]
    sources = np.concatenate(parts)
    _, height, width, _ = sources.shape
    side = min(PATCH, height, width)
    rows = generator.integers(height - side + 1, size=count)
    columns = generator.integers(width - side + 1, size=count)
    patches = []
    for image, row, column in zip(sources, rows, columns, strict=True):
        patches.append(image[row : row + side, column : column + side].ravel())
    order = generator.permutation(count)
    return np.stack(patches)[order].astype(np.float64)


def _shrink(images: jax.Array | np.ndarray) -> jax.Array:
    """Returns float32 images of 0 to 1 whose longer side is at most MAX_SIDE pixels."""
    x = jnp.asarray(images, jnp.float32) / 255
    batch_size, height, width, channels = x.shape
    scale = MAX_SIDE / max(height, width)
    if scale >= 1:
        return x
    shape = (batch_size, max(round(height * scale), 1), max(round(width * scale), 1), channels)
    return jax.image.resize(x, shape, "linear", antialias=True)


def _respond(images: jax.Array, filters: jax.Array) -> jax.Array:
    """Returns float32 [B, 2 * NUM_PATCHES * GRID**2]."""
    x = _shrink(images)
    layout = ("NHWC", "HWIO", "NHWC")
    x = lax.conv_general_dilated(x, filters, (1, 1), "VALID", dimension_numbers=layout)
    x = jnp.concatenate([nn.relu(x), nn.relu(-x)], axis=-1)
    batch_size, height, width, channels = x.shape
    cells = (batch_size, min(GRID, height), min(GRID, width), channels)
    means = jax.image.resize(x, cells, "linear", antialias=True)
    return means.reshape(batch_size, -1)
