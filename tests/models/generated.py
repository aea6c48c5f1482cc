"""Weights and images from seeds, with which our models are compared with their references.

With random running statistics the logits would hardly depend on the image, and a test would pass
whatever is wrong. So they are calibrated: taken from a batch of images, then coarsened to steps of
a quarter of the deviation and of a factor 1.5 in the variance. That moves them off the batch as
jitter would, and golden files can keep them in bytes.
"""

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import unflatten_dict
from ml_collections import ConfigDict

from imgcls_jax import models, trees
from imgcls_jax.pretrained import key_map

# Programs that run once compile in half the time like this.
UNOPTIMIZED = {"xla_backend_optimization_level": 0}


class Case(NamedTuple):
    """A model and its reference."""

    source: str  # torchvision | keras | torch: tests/parity/lite0.py
    name_of: Callable[[str], tuple[str, str]]
    options: dict = {}
    momentum: float = 0.9


def case(name: str, source: str, **settings) -> Case:
    return Case(source, key_map(name).name_of, **settings)


PLAIN = {"dropout": 0.0, "stochastic_depth": 0.0}
GOOGLENET = {"dropout": 0.0, "transform_input": True}
CASES = {
    "resnet18": case("resnet18", "torchvision"),
    "resnet50": case("resnet50", "torchvision"),
    "resnet50_keras": case("resnet50_keras", "keras", momentum=0.99),
    "googlenet": case("googlenet", "torchvision", options=GOOGLENET),
    "efficientnet_b0": case("efficientnet_b0", "torchvision", options=PLAIN),
    "efficientnetv2_b0": case("efficientnetv2_b0", "keras", options=PLAIN),
    "efficientnet_lite0": case("efficientnet_lite0", "torch", options=PLAIN, momentum=0.99),
    "convnext_tiny": case("convnext_tiny", "torchvision", options={"stochastic_depth": 0.0}),
}
GOLDEN = Path(__file__).parent / "golden"
GOLDEN_CLASSES = 100
GOLDEN_SHAPE = (64, 75)  # an even and an odd side: padding and ceil_mode matter in both ways
BOUND = 1e-4  # on the errors of features and logits, as shares of the largest entry
MEAN = np.array([0.485, 0.456, 0.406])
STD = np.array([0.229, 0.224, 0.225])


def create(name: str, *, num_classes: int, dtype=jnp.float32) -> nn.Module:
    config = ConfigDict({"name": name, **CASES[name].options})
    return models.create(config, num_classes=num_classes, dtype=dtype)


def images(count: int, height: int, width: int, seed: int = 1) -> np.ndarray:
    """float32 [count, height, width, 3], normalised: coarse squares of colour under fine noise."""
    rng = np.random.default_rng(seed)
    rows = np.arange(height) * 4 // height
    columns = np.arange(width) * 4 // width
    coarse = rng.random((count, 4, 4, 3))[:, rows][:, :, columns]
    pixels = (coarse + rng.random((count, height, width, 3))) / 2
    return ((pixels - MEAN) / STD).astype(np.float32)


def initialized(module: nn.Module, x, **options):
    """The variables that the module starts with, from seed 0."""
    init = functools.partial(module.init, **options)
    return jax.jit(init, compiler_options=UNOPTIMIZED)(jax.random.key(0), x)


def weights(model: nn.Module, seed: int = 0) -> dict[str, np.ndarray]:
    """Every variable of the model by its path; running statistics are 0."""
    rng = np.random.default_rng(seed)
    image = jnp.zeros((1, 32, 32, 3))
    shapes = trees.flatten(jax.eval_shape(model.init, jax.random.key(0), image))

    def draw(path: str, shape: tuple[int, ...]) -> np.ndarray:
        if path.startswith("batch_stats"):
            return np.zeros(shape, np.float32)
        # Uniform numbers only: the same bits whatever the version of NumPy.
        uniform = rng.random(shape, np.float32)
        match path.rsplit("/", 1)[1]:
            case "kernel":
                fan_in = np.prod(shape[:-1])
                return (uniform * 2 - 1) * np.float32((6 / fan_in) ** 0.5)
            case "scale":
                return uniform + np.float32(0.5)
            case "layer_scale":
                return uniform * np.float32(0.4) + np.float32(0.1)
            case "bias":
                return (uniform * 2 - 1) * np.float32(0.17)
        raise KeyError(path)

    return {path: draw(path, shapes[path].shape) for path in sorted(shapes)}


def tree(arrays: dict[str, np.ndarray]) -> dict:
    return unflatten_dict(arrays, sep="/")


def norms(arrays: dict[str, np.ndarray]) -> list[str]:
    """The paths of all BatchNorms' statistics."""
    return sorted(path.removesuffix("/mean") for path in arrays if path.endswith("/mean"))


def calibrate(
    name: str, arrays: dict[str, np.ndarray], x: np.ndarray, *, num_classes: int
) -> np.ndarray:
    """A batch's statistics, coarsened: codes int8 [2, channels of all BatchNorms]."""
    if not norms(arrays):
        return np.zeros((2, 0), np.int8)
    model = create(name, num_classes=num_classes)

    @jax.jit
    def step(variables, x):
        _, updated = model.apply(variables, x, train=True, mutable=["batch_stats"])
        return updated

    # The stored statistics were 0, so the new ones are (1 - momentum) of the batch's.
    updated = trees.flatten(step(tree(arrays), x))
    batch_share = 1 - CASES[name].momentum

    def joined(leaf: str) -> np.ndarray:
        statistics = [np.asarray(updated[f"{path}/{leaf}"], np.float64) for path in norms(arrays)]
        return np.concatenate(statistics) / batch_share

    var_codes = np.round(np.log(joined("var") + 1e-8) / np.log(1.5))
    mean_codes = np.round(joined("mean") / 1.5 ** (var_codes / 2) * 4)
    return np.stack([mean_codes, var_codes]).clip(-127, 127).astype(np.int8)


def with_statistics(arrays: dict[str, np.ndarray], codes: np.ndarray) -> dict[str, np.ndarray]:
    """The weights with the running statistics that the codes stand for."""
    mean_codes, var_codes = codes.astype(np.float64)
    var = 1.5**var_codes
    mean = mean_codes / 4 * var**0.5
    arrays = dict(arrays)
    start = 0
    for path in norms(arrays):
        stop = start + arrays[f"{path}/mean"].size
        arrays[f"{path}/mean"] = mean[start:stop].astype(np.float32)
        arrays[f"{path}/var"] = var[start:stop].astype(np.float32)
        start = stop
    return arrays


def outputs(name: str, arrays: dict[str, np.ndarray], x: np.ndarray, *, num_classes: int):
    """Our features [N, h, w, C] and logits [N, num_classes]."""
    model = create(name, num_classes=num_classes)

    def run(variables, x):
        features = model.apply(variables, x, method="features")
        logits = model.apply(variables, model.pool(features), method="head")
        return features, logits

    run = jax.jit(run, compiler_options=UNOPTIMIZED)
    features, logits = run(tree(arrays), x)
    return np.asarray(features), np.asarray(logits)


def difference(values: np.ndarray, reference: np.ndarray) -> float:
    """The largest absolute difference, as a share of the reference's largest entry."""
    assert values.shape == reference.shape
    return float(np.abs(values - reference).max() / np.abs(reference).max())


def apart(logits: np.ndarray) -> float:
    """How far the logits of two images are from each other, as a share of the largest."""
    return float(np.abs(logits[0] - logits[1]).max() / np.abs(logits).max())


def sample(features: np.ndarray) -> np.ndarray:
    """Some 200 entries from all over the features."""
    step = max(features.size // 200, 1)
    return features.reshape(-1)[::step]


def digest(names: dict[str, tuple[int, ...]]) -> str:
    """SHA-256 of the names and shapes in a file of weights."""
    lines = sorted(f"{name} {tuple(map(int, shape))}" for name, shape in names.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def golden_errors(name: str, arrays: dict[str, np.ndarray]) -> tuple[float, float]:
    """The errors of our features and logits, as shares of the reference's largest entries."""
    golden = np.load(GOLDEN / f"{name}.npz")
    arrays = with_statistics(arrays, golden["codes"])
    x = images(2, *GOLDEN_SHAPE)
    features, logits = outputs(name, arrays, x, num_classes=GOLDEN_CLASSES)
    assert features.shape == tuple(golden["map"])
    features_error = difference(sample(features), golden["features"])
    return features_error, difference(logits, golden["logits"])
