"""Accuracy under corruptions made on the fly, in the spirit of Hendrycks & Dietterich (2019, arXiv:1903.12261).

Corruptions take and give uint8 [N, H, W, C]. Their five severities are our own, chosen for images of 28 to 64 pixels;
sizes and distances are in pixels. What is random is drawn from (seed, corruption, severity) alone.
"""

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from tqdm import tqdm

from imgcls_jax.data.dataset import Dataset
from imgcls_jax.evaluation.predict import Predictor
from imgcls_jax.run.folder import RunFolder

SEVERITIES = (1, 2, 3, 4, 5)
CHUNK = 1000  # images that are corrupted at a time


def gaussian_noise(x, random, strength):
    return x + random.normal(0, strength, x.shape).astype(np.float32)


def shot_noise(x, random, photons):
    return (random.poisson(x * photons) / photons).astype(np.float32)


def impulse_noise(x, random, share):
    draws = random.random(x.shape[:3])[..., None]
    return np.where(draws < share / 2, 0, np.where(draws > 1 - share / 2, 1, x)).astype(np.float32)


def gaussian_blur(x, random, sigma):
    from scipy import ndimage

    return ndimage.gaussian_filter(x, (0, sigma, sigma, 0), mode="nearest")


def motion_blur(x, random, sigma):
    """Along the rows alone."""
    from scipy import ndimage

    return ndimage.gaussian_filter1d(x, sigma, axis=2, mode="nearest")


def fog(x, random, density):
    """A white cloud over each image, smooth over a quarter of it."""
    from scipy import ndimage

    height, width = x.shape[1:3]
    cloud = random.normal(size=(len(x), height, width, 1)).astype(np.float32)
    cloud = ndimage.gaussian_filter(cloud, (0, height / 8, width / 8, 0), mode="wrap")
    low, high = cloud.min((1, 2), keepdims=True), cloud.max((1, 2), keepdims=True)
    cloud = density * (0.5 + 0.5 * (cloud - low) / (high - low))
    return x * (1 - cloud) + cloud


def brightness(x, random, amount):
    return x + np.float32(amount)


def contrast(x, random, factor):
    mean = x.mean((1, 2), keepdims=True)
    return mean + factor * (x - mean)


def pixelate(x, random, share):
    """Shrunk to that share of its sides by the mean over boxes, and enlarged again without interpolation."""
    from PIL import Image

    height, width = x.shape[1:3]
    small = (max(round(width * share), 1), max(round(height * share), 1))
    resized = lambda image: (  # noqa: E731
        image.resize(small, Image.Resampling.BOX).resize((width, height), Image.Resampling.NEAREST)
    )
    return _each(x, resized)


def jpeg(x, random, quality):
    from PIL import Image

    def compressed(image):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer)

    return _each(x, compressed)


def _each(x, change: Callable) -> np.ndarray:
    """Applies a function of Pillow images to each of x, float32 in [0, 1]."""
    from PIL import Image

    images = (x * 255).round().astype(np.uint8)
    gray = images.shape[-1] == 1
    changed = [
        np.asarray(change(Image.fromarray(image[..., 0] if gray else image))) for image in images
    ]
    return np.stack(changed).reshape(x.shape).astype(np.float32) / 255


# Each with what its severities stand for.
CORRUPTIONS: Mapping[str, tuple[Callable, tuple[float, ...]]] = {
    "gaussian_noise": (gaussian_noise, (0.02, 0.04, 0.06, 0.08, 0.1)),  # standard deviation
    "shot_noise": (shot_noise, (500, 250, 100, 75, 50)),  # photons of a white pixel
    "impulse_noise": (impulse_noise, (0.01, 0.02, 0.04, 0.07, 0.1)),  # share of the pixels
    "gaussian_blur": (gaussian_blur, (0.4, 0.6, 0.8, 1.0, 1.3)),  # sigma
    "motion_blur": (motion_blur, (0.6, 0.9, 1.3, 1.8, 2.5)),  # sigma
    "fog": (fog, (0.2, 0.3, 0.4, 0.55, 0.7)),  # largest density
    "brightness": (brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": (contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "pixelate": (pixelate, (0.9, 0.75, 0.65, 0.5, 0.4)),  # of the sides
    "jpeg": (jpeg, (80, 65, 50, 35, 20)),  # quality
}


def corrupt(images: np.ndarray, name: str, severity: int, *, seed: int = 0) -> np.ndarray:
    """uint8 [N, H, W, C] -> uint8, the same shape. severity: 1 to 5. Equal arguments give equal images."""
    apply, strengths = CORRUPTIONS[name]
    random = np.random.default_rng([seed, *name.encode(), severity])
    out = np.empty(images.shape, np.uint8)
    for start in range(0, len(images), CHUNK):
        x = images[start : start + CHUNK].astype(np.float32) / 255
        out[start : start + CHUNK] = (
            apply(x, random, strengths[severity - 1]).clip(0, 1) * 255
        ).round()
    return out


def evaluate(run: RunFolder, test: Dataset, *, limit: int = 0) -> dict[str, Any]:
    """Accuracies of the run's best model on the test set, clean and under every corruption and severity.

    limit: only so many of the first images; 0 takes all. Returns a JSON-ready dict: examples, clean, mean (over
    everything corrupted) and corruptions: {name: [accuracy at severity 1, ..., 5]}.
    """
    if limit:
        test = test.take(np.arange(min(limit, len(test))))
    predictor = Predictor(run)

    def accuracy(images: np.ndarray) -> float:
        return float((predictor.logits(images).argmax(-1) == test.labels).mean())

    found = {"examples": len(test), "clean": accuracy(test.images), "corruptions": {}}
    with tqdm(
        total=len(CORRUPTIONS) * len(SEVERITIES), desc=run.name, unit="set", disable=None
    ) as bar:
        for name in CORRUPTIONS:
            found["corruptions"][name] = []
            for severity in SEVERITIES:
                found["corruptions"][name].append(accuracy(corrupt(test.images, name, severity)))
                bar.update()
                bar.set_postfix_str(f"{name} {severity}")
    found["mean"] = float(np.mean(list(found["corruptions"].values())))
    return found
