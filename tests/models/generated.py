"""Weights and images made from seeds alone, on which our models are compared with torchvision's and Keras'.

Random running statistics would make logits that hardly depend on the image, and a test that passes whatever is wrong.
So they are calibrated: taken from a batch of images, then coarsened to steps of a quarter of the deviation and of a
factor 1.5 in the variance. That moves them off the batch as jitter would, and lets golden files keep them in bytes.
"""

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
from imgcls_jax.pretrained import convnext, efficientnet, googlenet, resnet


class Case(NamedTuple):
    source: str  # torchvision | keras | torch: tests/parity/lite0.py
    name_of: Callable[[str], tuple[str, str]]
    options: dict = {}
    momentum: float = 0.9


PLAIN = {"dropout": 0.0, "stochastic_depth": 0.0}
CASES = {
    "resnet18": Case("torchvision", resnet.torch_name),
    "resnet50": Case("torchvision", resnet.torch_name),
    "resnet50_keras": Case("keras", resnet.keras_name, momentum=0.99),
    "googlenet": Case(
        "torchvision", googlenet.torch_name, {"dropout": 0.0, "transform_input": True}
    ),
    "efficientnet_b0": Case("torchvision", efficientnet.torch_name, PLAIN),
    "efficientnetv2_b0": Case("keras", efficientnet.keras_name, PLAIN),
    "efficientnet_lite0": Case("torch", efficientnet.lite_name, PLAIN, momentum=0.99),
    "convnext_tiny": Case("torchvision", convnext.torch_name, {"stochastic_depth": 0.0}),
}
GOLDEN = Path(__file__).parent / "golden"
GOLDEN_CLASSES, GOLDEN_SHAPE = (
    100,
    (64, 75),
)  # an even and an odd side: padding and ceil_mode matter in both ways
BOUND = 1e-4  # on the errors of features and logits, as shares of the largest entry
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def create(name: str, *, num_classes: int, dtype=jnp.float32) -> nn.Module:
    config = ConfigDict({"name": name, **CASES[name].options})
    return models.create(config, num_classes=num_classes, dtype=dtype)


def images(count: int, height: int, width: int, seed: int = 1) -> np.ndarray:
    """float32 [count, height, width, 3], normalised: coarse squares of colour under fine noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((count, 4, 4, 3))[:, np.arange(height) * 4 // height][
        :, :, np.arange(width) * 4 // width
    ]
    pixels = (coarse + rng.random((count, height, width, 3))) / 2
    return ((pixels - MEAN) / STD).astype(np.float32)


def weights(model: nn.Module, seed: int = 0) -> dict[str, np.ndarray]:
    """Every variable of the model by its path; running statistics are 0."""
    rng = np.random.default_rng(seed)
    shapes = trees.flatten(jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3))))

    def draw(path: str, shape: tuple[int, ...]) -> np.ndarray:
        if path.startswith("batch_stats"):
            return np.zeros(shape, np.float32)
        # Uniform numbers only: the same bits whatever the version of NumPy.
        uniform = rng.random(shape, np.float32)
        match path.rsplit("/", 1)[1]:
            case "kernel":
                return (uniform * 2 - 1) * np.float32((6 / np.prod(shape[:-1])) ** 0.5)
            case "scale":
                return uniform + np.float32(0.5)
            case "layer_scale":
                return uniform * np.float32(0.4) + np.float32(0.1)
            case "bias":
                return (uniform * 2 - 1) * np.float32(0.17)
        raise KeyError(path)

    return {path: draw(path, shapes[path].shape) for path in sorted(shapes)}


def tree(arrays: dict[str, np.ndarray]) -> dict:
    return unflatten_dict({tuple(path.split("/")): array for path, array in arrays.items()})


def norms(arrays: dict[str, np.ndarray]) -> list[str]:
    """The paths of all BatchNorms' statistics."""
    return sorted(path.removesuffix("/mean") for path in arrays if path.endswith("/mean"))


def calibrate(
    name: str, arrays: dict[str, np.ndarray], x: np.ndarray, *, num_classes: int
) -> np.ndarray:
    """The statistics of a batch of images, coarsened: codes int8 [2, channels of all BatchNorms]."""
    if not norms(arrays):
        return np.zeros((2, 0), np.int8)
    model = create(name, num_classes=num_classes)
    step = jax.jit(lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"])[1])
    updated = trees.flatten(
        step(tree(arrays), x)
    )  # (1 - momentum) of the batch's: those before were 0
    updated = {
        path: np.asarray(leaf, np.float64) / (1 - CASES[name].momentum)
        for path, leaf in updated.items()
    }
    mean, var = (
        np.concatenate([updated[f"{path}/{leaf}"] for path in norms(arrays)])
        for leaf in ("mean", "var")
    )
    steps = np.round(np.log(var + 1e-8) / np.log(1.5))
    return (
        np.stack([np.round(mean / 1.5 ** (steps / 2) * 4), steps]).clip(-127, 127).astype(np.int8)
    )


def with_statistics(arrays: dict[str, np.ndarray], codes: np.ndarray) -> dict[str, np.ndarray]:
    """The weights with the running statistics that the codes stand for."""
    steps, var = codes.astype(np.float64), 1.5 ** codes[1].astype(np.float64)
    decoded, done, start = {"mean": steps[0] / 4 * var**0.5, "var": var}, dict(arrays), 0
    for path in norms(arrays):
        stop = start + arrays[f"{path}/mean"].size
        for leaf, values in decoded.items():
            done[f"{path}/{leaf}"] = values[start:stop].astype(np.float32)
        start = stop
    return done


def outputs(name: str, arrays: dict[str, np.ndarray], x: np.ndarray, *, num_classes: int):
    """Our features [N, h, w, C] and logits [N, num_classes]."""
    model = create(name, num_classes=num_classes)

    def run(variables, x):
        features = model.apply(variables, x, method="features")
        return features, model.apply(variables, model.pool(features), method="head")

    # Without optimisation the programs compile in half the time; they run once.
    run = jax.jit(run, compiler_options={"xla_backend_optimization_level": 0})
    return tuple(np.asarray(output) for output in run(tree(arrays), x))


def difference(ours: np.ndarray, reference: np.ndarray) -> float:
    """The largest absolute difference, as a share of the reference's largest entry."""
    assert ours.shape == reference.shape
    return float(np.abs(ours - reference).max() / np.abs(reference).max())


def apart(logits: np.ndarray) -> float:
    """How far the logits of two images are from each other, as a share of the largest."""
    return float(np.abs(logits[0] - logits[1]).max() / np.abs(logits).max())


def sample(features: np.ndarray) -> np.ndarray:
    """Some 200 entries from all over the features."""
    return features.reshape(-1)[:: max(features.size // 200, 1)]


def digest(names: dict[str, tuple[int, ...]]) -> str:
    """SHA-256 of the names and shapes in a file of weights."""
    lines = sorted(f"{name} {tuple(map(int, shape))}" for name, shape in names.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def golden_errors(name: str, arrays: dict[str, np.ndarray]) -> tuple[float, float]:
    """How far our features and logits are from the reference's, as shares of its largest entries."""
    golden = np.load(GOLDEN / f"{name}.npz")
    arrays, x = with_statistics(arrays, golden["codes"]), images(2, *GOLDEN_SHAPE)
    features, logits = outputs(name, arrays, x, num_classes=GOLDEN_CLASSES)
    assert features.shape == tuple(golden["map"])
    return difference(sample(features), golden["features"]), difference(logits, golden["logits"])
