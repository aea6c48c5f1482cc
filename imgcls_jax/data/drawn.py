"""Writes digits from outside MNIST, to try a classifier of digits on.

  python -m imgcls_jax.data.drawn FOLDER
  python -m imgcls_jax predict runs/mnist_cnn FOLDER/drawn

writes image files, with a folder for each class: FOLDER/sklearn_digits, scikit-learn's 1,797 scans
of 8x8 pixels, and FOLDER/drawn, 500 digits that this module draws. These are pen strokes of 48 to
160 pixels, most of them dark on unevenly lit paper, some of chalk on a board.
"""

import dataclasses
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from imgcls_jax import console
from imgcls_jax.data.borders import has_light_border
from imgcls_jax.data.dataset import Dataset
from imgcls_jax.data.image_files import DIGITS, MNIST_SIDE, as_mnist
from imgcls_jax.errors import ConfigError, shape_text

TRAINING_SEED = 1998  # of drawn training images, with the seed of the splits
IMAGES_PER_DIGIT = 50  # drawn images that the command writes of each digit
SCALE = 4  # images are drawn so many times as large and then shrunk, which smooths their edges
LINE_POINTS = 8  # of a straight part of a stroke, so that it can be bent
ARC_POINTS = 24

# float [P, 2]: x and y of a stroke's points, in a digit 1 wide and high, y downwards.
Stroke = np.ndarray


def line(*points: tuple[float, float]) -> Stroke:
    """Returns straight lines from point to point."""
    parts = []
    for start, end in zip(points[:-1], points[1:], strict=True):
        parts.append(np.linspace(start, end, LINE_POINTS))
    return np.concatenate(parts)


def arc(x: float, y: float, width: float, height: float, start: float, end: float) -> Stroke:
    """Returns an arc of the ellipse around (x, y) with these half axes.

    start and end: angles in degrees, clockwise from the right.
    """
    angle = np.radians(np.linspace(start, end, ARC_POINTS))
    return np.stack([x + width * np.cos(angle), y + height * np.sin(angle)], axis=1)


def joined(*parts: Stroke) -> Stroke:
    return np.concatenate(parts)


# The ways of writing each digit, each a list of strokes.
VARIANTS: tuple[tuple[list[Stroke], ...], ...] = (
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


def draw(digit: int, generator: np.random.Generator) -> np.ndarray:
    """Draws the digit as a hand could, uint8 [H, W] with H and W from 48 to 160."""
    height, width = generator.integers(48, 161, 2)
    digit_height = min(height, width) * generator.uniform(0.45, 0.75)  # pixels
    thickness = digit_height * generator.uniform(0.05, 0.14)
    matrix = _handwriting_matrix(digit_height, generator)
    free = np.array([width, height]) - digit_height
    centre = np.array([width, height]) / 2 + free * generator.uniform(-0.2, 0.2, 2)

    variants = VARIANTS[digit]
    strokes = []
    for stroke in variants[generator.integers(len(variants))]:
        bent = stroke - 0.5 + generator.normal(0, 0.02, 2) + _waves(stroke, generator)
        strokes.append(bent @ matrix.T + centre)
    ink = _ink(strokes, width=int(width), height=int(height), thickness=thickness)
    blur = generator.uniform(0, 0.04) * digit_height / 2
    return _photograph(ink, blur=blur, generator=generator)


def _handwriting_matrix(scale: float, generator: np.random.Generator) -> np.ndarray:
    """Returns the scale with a random rotation, slant and narrowing, float64 [2, 2]."""
    angle = np.radians(generator.normal(0, 6))
    slant = generator.normal(0.1, 0.15)
    narrowing = generator.uniform(0.55, 0.85)
    cosine = np.cos(angle)
    sine = np.sin(angle)
    rotation = np.array([[cosine, -sine], [sine, cosine]])
    return scale * rotation @ [[1, -slant], [0, 1]] @ [[narrowing, 0], [0, 1]]


def _waves(stroke: Stroke, generator: np.random.Generator) -> np.ndarray:
    """Returns how far a hand strays from each of the points: slow waves over the digit."""
    frequencies = generator.uniform(1, 4, (2, 2))
    phases = generator.uniform(0, 2 * np.pi, 2)
    return 0.03 * np.sin(stroke @ frequencies + phases)


def _ink(strokes: Iterable[Stroke], *, width: int, height: int, thickness: float) -> np.ndarray:
    """Draws strokes, in pixels, with a round pen: float64 [H, W], 1 where there is ink."""
    from PIL import Image, ImageDraw

    canvas = Image.new("L", (width * SCALE, height * SCALE))
    pen = ImageDraw.Draw(canvas)
    line_width = max(round(SCALE * thickness), 1)
    radius = SCALE * thickness / 2
    for stroke in strokes:
        points = SCALE * stroke
        pen.line([tuple(point) for point in points], fill=255, width=line_width, joint="curve")
        for x, y in points[[0, -1]]:
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    shrunk = canvas.resize((width, height), Image.Resampling.BOX)
    return np.asarray(shrunk, np.float64) / 255


def _photograph(ink: np.ndarray, *, blur: float, generator: np.random.Generator) -> np.ndarray:
    """Returns ink on paper, or chalk on a board, unevenly lit and with noise: uint8 [H, W]."""
    from scipy import ndimage

    ink = ndimage.gaussian_filter(ink, blur)
    if generator.random() < 0.75:
        paper = generator.uniform(150, 255)
        color = generator.uniform(0, 90)
    else:
        paper = generator.uniform(0, 70)
        color = generator.uniform(180, 255)
    height, width = ink.shape
    sideways, downwards = generator.uniform(-0.1, 0.1, 2)
    columns = np.linspace(-1, 1, width)
    rows = np.linspace(-1, 1, height)[:, None]
    light = 1 + sideways * columns + downwards * rows
    noise = generator.normal(0, generator.uniform(0, 12), ink.shape)
    image = (paper + ink * (color - paper)) * light + noise
    return image.clip(0, 255).round().astype(np.uint8)


def with_drawn(train: Dataset, images_per_digit: int, *, seed: int) -> Dataset:
    """Returns the training set followed by drawn images of every digit, made as MNIST's were.

    Raises ConfigError if the data set's images are not digits of MNIST's form.
    """
    shape = train.images.shape[1:]
    if shape != (MNIST_SIDE, MNIST_SIDE, 1) or tuple(train.class_names) != DIGITS:
        raise ConfigError(
            f"config.data.drawn is {images_per_digit}, but the images are {shape_text(shape)} of "
            f"{len(train.class_names)} classes: drawn digits go with grayscale images of "
            f"{MNIST_SIDE}x{MNIST_SIDE} of the classes 0 to 9."
        )
    generator = np.random.default_rng((TRAINING_SEED, seed))  # not the digits of the command
    labels = np.repeat(np.arange(10, dtype=np.int32), images_per_digit)
    images = []
    for digit in labels:
        image = draw(digit, generator)
        if has_light_border(image):
            image = 255 - image
        images.append(as_mnist(image)[..., None])
    labels = labels.astype(train.labels.dtype)
    return dataclasses.replace(
        train,
        images=np.concatenate([np.asarray(train.images), np.stack(images)]),
        labels=np.concatenate([train.labels, labels]),
    )


def write(folder: Path) -> list[Path]:
    """Writes both sets and returns their folders.

    The files are equal for equal versions of NumPy and Pillow.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    scans = np.round(data.images * (255 / 16)).astype(np.uint8)
    scans_folder = folder / "sklearn_digits"
    _save(scans_folder, zip(data.target, scans, strict=True))

    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), IMAGES_PER_DIGIT)
    drawn_folder = folder / "drawn"
    _save(drawn_folder, ((digit, draw(digit, generator)) for digit in labels))
    return [scans_folder, drawn_folder]


def _save(folder: Path, examples: Iterable[tuple[int, np.ndarray]]) -> None:
    """Saves (label, image) pairs as FOLDER/LABEL/NUMBER.png."""
    from PIL import Image

    for number, (label, image) in enumerate(examples):
        path = folder / str(label) / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    console.say(*write(Path(sys.argv[1])))
