"""Digits from outside MNIST, as image files in a folder a class, to try a classifier of digits on.

  python -m imgcls_jax.data.drawn FOLDER
  python -m imgcls_jax predict runs/mnist_cnn FOLDER/drawn

writes FOLDER/sklearn_digits (scikit-learn's 1,797 scans of 8x8 pixels) and FOLDER/drawn (500 digits that this file
draws: pen strokes, most of them dark on unevenly lit paper, some of chalk on a board, 48 to 160 pixels wide and high).
"""

import dataclasses
import sys
from pathlib import Path

import numpy as np

from imgcls_jax.data.dataset import Dataset
from imgcls_jax.data.image_files import MNIST_SIDE, as_mnist, border
from imgcls_jax.errors import ConfigError

DRAWN = 1998  # begins the seed of drawn training images
EACH = 50  # drawn images of each digit
FINE = 4  # what is drawn is drawn so many times as large and then shrunk, which smooths its edges
POINTS = 24  # of an arc

Stroke = (
    np.ndarray
)  # float [P, 2]: x and y of its points, the digit being 1 wide and high, y downwards


def line(*points: tuple[float, float]) -> Stroke:
    """Straight from point to point, with points between them, so that it can be bent."""
    parts = [np.linspace(start, end, 8) for start, end in zip(points[:-1], points[1:], strict=True)]
    return np.concatenate(parts)


def arc(x: float, y: float, width: float, height: float, start: float, end: float) -> Stroke:
    """Of the ellipse of these half axes around (x, y); degrees, from 0 at the right clockwise."""
    angle = np.radians(np.linspace(start, end, POINTS))
    return np.stack([x + width * np.cos(angle), y + height * np.sin(angle)], axis=1)


def joined(*parts: Stroke) -> Stroke:
    return np.concatenate(parts)


# The ways in which each digit is written, each a list of strokes.
DIGITS: tuple[tuple[list[Stroke], ...], ...] = (
    ([arc(0.5, 0.5, 0.4, 0.5, 260, 620)],),
    (
        [line((0.5, 0), (0.5, 1))],
        [line((0.25, 0.2), (0.55, 0), (0.55, 1))],
        [line((0.25, 0.2), (0.5, 0), (0.5, 1)), line((0.2, 1), (0.8, 1))],
    ),
    ([joined(arc(0.5, 0.28, 0.36, 0.28, 190, 400), line((0.7, 0.52), (0.12, 1), (0.9, 1)))],),
    ([joined(arc(0.45, 0.25, 0.35, 0.25, 200, 440), arc(0.45, 0.74, 0.42, 0.26, 275, 510))],),
    (
        [line((0.2, 0), (0.1, 0.58), (0.9, 0.58)), line((0.7, 0.15), (0.68, 1))],
        [line((0.65, 0), (0.08, 0.65), (0.95, 0.65)), line((0.65, 0), (0.65, 1))],
    ),
    (
        [joined(line((0.85, 0), (0.22, 0), (0.18, 0.45)), arc(0.45, 0.68, 0.4, 0.32, 230, 510))],
        [
            joined(line((0.22, 0), (0.18, 0.45)), arc(0.45, 0.68, 0.4, 0.32, 230, 510)),
            line((0.22, 0), (0.85, 0)),
        ],
    ),
    ([joined(arc(0.85, 0.7, 0.75, 0.7, 260, 180), arc(0.48, 0.72, 0.38, 0.28, 180, -180))],),
    (
        [line((0.1, 0), (0.9, 0), (0.35, 1))],
        [line((0.1, 0), (0.9, 0), (0.35, 1)), line((0.3, 0.5), (0.78, 0.5))],
    ),
    ([arc(0.5, 0.25, 0.3, 0.25, 90, -270), arc(0.5, 0.75, 0.37, 0.25, 270, 630)],),
    (
        [joined(arc(0.5, 0.28, 0.36, 0.28, 0, -360), line((0.86, 0.28), (0.75, 1)))],
        [joined(arc(0.5, 0.28, 0.36, 0.28, 0, -360), arc(0.36, 0.45, 0.5, 0.55, -10, 100))],
    ),
)


def draw(digit: int, random: np.random.Generator) -> np.ndarray:
    """A hand's version of the digit, uint8 [H, W], H and W being 48 to 160."""
    from PIL import Image, ImageDraw
    from scipy import ndimage

    ways = DIGITS[digit]
    height, width = random.integers(48, 161, 2)
    tall = min(height, width) * random.uniform(0.45, 0.75)  # pixels
    thick = tall * random.uniform(0.05, 0.14)
    turn, slant = np.radians(random.normal(0, 6)), random.normal(0.1, 0.15)
    narrow = random.uniform(0.55, 0.85)
    place = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    place = tall * place @ [[1, -slant], [0, 1]] @ [[narrow, 0], [0, 1]]
    free = np.array([width, height]) - tall
    middle = np.array([width, height]) / 2 + free * random.uniform(-0.2, 0.2, 2)

    canvas = Image.new("L", (int(width) * FINE, int(height) * FINE))
    pen = ImageDraw.Draw(canvas)
    for stroke in ways[random.integers(len(ways))]:
        bent = stroke - 0.5 + random.normal(0, 0.02, 2) + _waves(stroke, random)
        points = FINE * (bent @ place.T + middle)
        pen.line(
            [tuple(point) for point in points],
            fill=255,
            width=max(round(FINE * thick), 1),
            joint="curve",
        )
        for x, y in points[[0, -1]]:  # the pen is round
            radius = FINE * thick / 2
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    ink = (
        np.asarray(canvas.resize((int(width), int(height)), Image.Resampling.BOX), np.float64) / 255
    )
    ink = ndimage.gaussian_filter(ink, random.uniform(0, 0.04) * tall / 2)

    if random.random() < 0.75:
        paper, colour = random.uniform(150, 255), random.uniform(0, 90)
    else:
        paper, colour = random.uniform(0, 70), random.uniform(180, 255)
    sideways, downwards = random.uniform(-0.1, 0.1, 2)
    light = (
        1 + sideways * np.linspace(-1, 1, width) + downwards * np.linspace(-1, 1, height)[:, None]
    )
    image = (paper + ink * (colour - paper)) * light + random.normal(
        0, random.uniform(0, 12), ink.shape
    )
    return image.clip(0, 255).round().astype(np.uint8)


def _waves(stroke: Stroke, random: np.random.Generator) -> np.ndarray:
    """How far a hand strays from each of the points: slow waves over the digit."""
    frequencies, phases = random.uniform(1, 4, (2, 2)), random.uniform(0, 2 * np.pi, 2)
    return 0.03 * np.sin(stroke @ frequencies + phases)


def with_drawn(train: Dataset, each: int, *, seed: int) -> Dataset:
    """The training set and `each` drawn images of every digit behind it, made as MNIST's were.

    Raises ConfigError where the images are not digits of MNIST's form.
    """
    if train.images.shape[1:] != (MNIST_SIDE, MNIST_SIDE, 1) or tuple(train.class_names) != tuple(
        "0123456789"
    ):
        shape = "x".join(map(str, train.images.shape[1:]))
        raise ConfigError(
            f"config.data.drawn is {each}, but the images are {shape} of {len(train.class_names)} classes: drawn "
            f"digits go with grayscale images of {MNIST_SIDE}x{MNIST_SIDE} of the classes 0 to 9."
        )
    random = np.random.default_rng((DRAWN, seed))  # others than `write` draws
    labels = np.repeat(np.arange(10, dtype=np.int32), each)
    images = [draw(digit, random) for digit in labels]
    dark = [255 - image if border(image) > 127 else image for image in images]
    drawn = np.stack([as_mnist(image) for image in dark])[..., None]
    return dataclasses.replace(
        train,
        images=np.concatenate([np.asarray(train.images), drawn]),
        labels=np.concatenate([train.labels, labels.astype(train.labels.dtype)]),
    )


def write(folder: Path) -> list[Path]:
    """Writes both sets; returns their folders. Equal versions of NumPy and Pillow write equal files."""
    from PIL import Image
    from sklearn.datasets import load_digits

    data = load_digits()
    scans = list(zip(data.target, np.round(data.images * (255 / 16)).astype(np.uint8), strict=True))
    random = np.random.default_rng(0)
    drawn = [(digit, draw(digit, random)) for digit in range(10) for _ in range(EACH)]
    sets = {"sklearn_digits": scans, "drawn": drawn}
    for name, images in sets.items():
        for number, (label, image) in enumerate(images):
            path = folder / name / str(label) / f"{number:04}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return [folder / name for name in sets]


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    print(*write(Path(sys.argv[1])), sep="\n")
