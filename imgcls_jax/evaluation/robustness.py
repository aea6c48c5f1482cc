"""Accuracy under image corruptions, in the spirit of Hendrycks & Dietterich (2019).

The paper is arXiv:1903.12261. A corruption function takes and returns float32 images in [0, 1],
[N, H, W, C] (`corrupt` clips the result). Its five severities are our own, chosen for images of 28
to 64 pixels; sizes and distances are in pixels. Random numbers depend only on (seed, corruption,
severity).
"""

import io
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from imgcls_jax.data.dataset import Dataset
from imgcls_jax.errors import printable
from imgcls_jax.evaluation.predict import Predictor
from imgcls_jax.run.folder import RunFolder

if TYPE_CHECKING:
    from PIL.Image import Image

SEVERITIES = (1, 2, 3, 4, 5)
AT_RANDOM = "at random"  # how a limited number of images is chosen
CHUNK_SIZE = 1000  # images that are corrupted at a time


def gaussian_noise(x, rng, standard_deviation):
    noise = rng.normal(0, standard_deviation, x.shape)
    return x + noise.astype(np.float32)


def shot_noise(x, rng, photons):
    """Poisson noise; `photons` is the number that a white pixel gets."""
    counts = rng.poisson(x * photons)
    return (counts / photons).astype(np.float32)


def impulse_noise(x, rng, share):
    """Turns this share of the pixels black or white."""
    draws = rng.random((*x.shape[:3], 1))
    x = np.where(draws > 1 - share / 2, 1, x)
    x = np.where(draws < share / 2, 0, x)
    return x.astype(np.float32)


def gaussian_blur(x, rng, sigma):
    from scipy import ndimage

    return ndimage.gaussian_filter(x, (0, sigma, sigma, 0), mode="nearest")


def motion_blur(x, rng, sigma):
    """Blurs along the rows only."""
    from scipy import ndimage

    return ndimage.gaussian_filter1d(x, sigma, axis=2, mode="nearest")


def fog(x, rng, density):
    """Puts a white cloud over each image, smooth on the scale of a quarter of its side."""
    from scipy import ndimage

    height, width = x.shape[1:3]
    noise = rng.normal(size=(len(x), height, width, 1))
    noise = noise.astype(np.float32)
    sigma = (0, height / 8, width / 8, 0)
    cloud = ndimage.gaussian_filter(noise, sigma, mode="wrap")
    low = cloud.min((1, 2), keepdims=True)
    high = cloud.max((1, 2), keepdims=True)
    cloud = 0.5 + 0.5 * (cloud - low) / (high - low)
    cloud = density * cloud
    return x * (1 - cloud) + cloud


def brightness(x, rng, amount):
    return x + np.float32(amount)


def contrast(x, rng, factor):
    mean = x.mean((1, 2), keepdims=True)
    return mean + factor * (x - mean)


def pixelate(x, rng, share):
    """Shrinks the sides to `share` of their length (box filter) and enlarges them (nearest)."""
    from PIL.Image import Resampling

    height, width = x.shape[1:3]
    small_width = max(round(width * share), 1)
    small_height = max(round(height * share), 1)

    def shrink_and_enlarge(image: "Image") -> "Image":
        small = image.resize((small_width, small_height), Resampling.BOX)
        return small.resize((width, height), Resampling.NEAREST)

    return _map_pillow(shrink_and_enlarge, x)


def jpeg(x, rng, quality):
    from PIL import Image

    def compress(image: "Image.Image") -> "Image.Image":
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer)

    return _map_pillow(compress, x)


def _map_pillow(change: "Callable[[Image], Image]", x: np.ndarray) -> np.ndarray:
    """Applies a function of Pillow images to each of x, float32 [N, H, W, C] in [0, 1]."""
    from PIL import Image

    images = (x * 255).round().astype(np.uint8)
    if images.shape[-1] == 1:
        images = images[..., 0]  # Pillow's gray images have no channel axis
    changed = []
    for image in images:
        picture = change(Image.fromarray(image))
        changed.append(np.asarray(picture))
    stacked = np.stack(changed).reshape(x.shape)
    return stacked.astype(np.float32) / 255


# The function of each corruption, and its strength at each of SEVERITIES.
CORRUPTIONS: Mapping[str, tuple[Callable, tuple[float, ...]]] = {
    "gaussian_noise": (gaussian_noise, (0.02, 0.04, 0.06, 0.08, 0.1)),
    "shot_noise": (shot_noise, (500, 250, 100, 75, 50)),
    "impulse_noise": (impulse_noise, (0.01, 0.02, 0.04, 0.07, 0.1)),
    "gaussian_blur": (gaussian_blur, (0.4, 0.6, 0.8, 1.0, 1.3)),
    "motion_blur": (motion_blur, (0.6, 0.9, 1.3, 1.8, 2.5)),
    "fog": (fog, (0.2, 0.3, 0.4, 0.55, 0.7)),
    "brightness": (brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": (contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "pixelate": (pixelate, (0.9, 0.75, 0.65, 0.5, 0.4)),
    "jpeg": (jpeg, (80, 65, 50, 35, 20)),
}


def corrupt(
    images: np.ndarray,
    name: str,
    severity: int,
    *,
    seed: int = 0,
) -> np.ndarray:
    """Returns corrupted images, uint8 [N, H, W, C] like `images`.

    name: a key of CORRUPTIONS. severity: 1 to 5. Equal arguments give equal images.
    """
    apply, strengths = CORRUPTIONS[name]
    strength = strengths[severity - 1]
    rng = np.random.default_rng([seed, *name.encode(), severity])
    corrupted = np.empty(images.shape, np.uint8)
    for start in range(0, len(images), CHUNK_SIZE):
        chunk = slice(start, start + CHUNK_SIZE)
        x = images[chunk].astype(np.float32) / 255
        x = apply(x, rng, strength)
        corrupted[chunk] = (x.clip(0, 1) * 255).round()
    return corrupted


def evaluate(
    run: RunFolder,
    test: Dataset,
    *,
    limit: int = 0,
) -> dict[str, Any]:
    """Measures the accuracy of the run's best model under every corruption and severity.

    limit: use only so many of the images, drawn at random; 0 uses all.

    Returns a JSON-ready dict: examples, chosen (AT_RANDOM; not in those of older versions, which
    took the first images), clean (accuracy without corruption), corruptions: {name:
    [accuracy at severity 1, ..., 5]}, and mean (over all of these).
    """
    if limit:
        test = test.sample(limit)
    predictor = Predictor(run)

    def accuracy(images: np.ndarray) -> float:
        predicted = predictor.logits(images).argmax(-1)
        return float((predicted == test.labels).mean())

    clean = accuracy(test.images)
    total = len(CORRUPTIONS) * len(SEVERITIES)
    accuracies: dict[str, list[float]] = {}
    with tqdm(total=total, desc=printable(run.name), unit="set", disable=None) as bar:
        for name in CORRUPTIONS:
            accuracies[name] = []
            for severity in SEVERITIES:
                images = corrupt(test.images, name, severity)
                accuracies[name].append(accuracy(images))
                bar.update()
                bar.set_postfix_str(f"{name} {severity}")
    all_accuracies = list(accuracies.values())
    return {
        "examples": len(test),
        "chosen": AT_RANDOM,
        "clean": clean,
        "corruptions": accuracies,
        "mean": float(np.mean(all_accuracies)),
    }
