"""Figures that show a data set's images: samples, mistakes, and what the model sees in training."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from imgcls_jax.data.dataset import Dataset
from imgcls_jax.reporting import formats
from imgcls_jax.reporting.plots import fonts, style
from imgcls_jax.reporting.plots.canvas import Canvas, Line, captioned, tile, tile_shape

MOST_MISTAKES = 24
MOST_ROWS = 25  # of a column of classes in the grid of samples
NAME_SIZE = 10  # points
MISTAKE_SIDE = 120  # pixels
BATCH_SIDE = 88  # pixels


def sample_grid(dataset: Dataset, indices: Sequence[np.ndarray]) -> Figure:
    """Some examples of each class: a row a class, with its name at the left.

    indices: of the first K classes, the examples to show. More than MOST_ROWS classes are in
    several columns.
    """
    classes = len(indices)
    samples = max(map(len, indices), default=0)
    blocks = -(-classes // MOST_ROWS)
    rows = -(-classes // blocks)
    side = 64 if blocks == 1 else 40
    tile_height, tile_width = tile_shape(dataset, side)
    names = [fonts.shorten(name) for name in dataset.class_names[:classes]]
    label_width = fonts.widest(names, NAME_SIZE) + 10
    gap = 4
    margin = 12
    space = 20
    step = tile_width + gap
    row_height = tile_height + gap
    block_width = label_width + samples * step + space

    canvas = Canvas(
        width=2 * margin + blocks * block_width - space - gap,
        height=2 * margin + rows * row_height - gap,
    )
    for k, (name, row_indices) in enumerate(zip(names, indices, strict=True)):
        block, row = divmod(k, rows)
        x = margin + block * block_width + label_width
        y = margin + row * row_height
        middle = y + tile_height / 2
        canvas.text(
            x - 10,
            middle,
            name,
            size=NAME_SIZE,
            ha="right",
            va="center",
        )
        for n, index in enumerate(row_indices):
            canvas.image(x + n * step, y, tile(dataset.images[index], side))
    return canvas.figure()


def most_confident_mistakes(
    probabilities: np.ndarray, labels: np.ndarray, most: int = MOST_MISTAKES
) -> np.ndarray:
    """Indices of wrongly classified examples of probabilities [N, K], most confident first."""
    wrong = np.flatnonzero(probabilities.argmax(axis=-1) != labels)
    confidences = probabilities[wrong].max(axis=-1)
    return wrong[np.argsort(-confidences, kind="stable")][:most]


def mistakes(
    dataset: Dataset, probabilities: np.ndarray, indices: np.ndarray | None = None
) -> Figure:
    """Misclassified examples with true class, predicted class and confidence.

    dataset: the N examples of probabilities [N, K]. indices: which of them to show, by default the
    most confident mistakes.
    """
    if indices is None:
        indices = most_confident_mistakes(probabilities, dataset.labels)
    if not len(indices):
        return _no_mistakes()
    captions = []
    for index in indices:
        predicted = probabilities[index].argmax()
        confidence = formats.confidence(probabilities[index, predicted])
        true_name = fonts.shorten(dataset.class_names[dataset.labels[index]], 16)
        predicted_name = fonts.shorten(dataset.class_names[predicted], 16)
        true_line = Line(f"{true_name} \N{RIGHTWARDS ARROW}", style.INK)
        predicted_line = Line(f"{predicted_name}  {confidence}", style.RED)
        captions.append((true_line, predicted_line))
    return captioned(dataset.images[indices], captions, side=MISTAKE_SIDE)


def _no_mistakes() -> Figure:
    canvas = Canvas(width=480, height=80)
    message = "No example is misclassified."
    canvas.text(
        240,
        40,
        message,
        size=11,
        ha="center",
        va="center",
    )
    return canvas.figure()


def batch(images: np.ndarray, draws: np.ndarray, *, names: Sequence[str]) -> Figure:
    """Images as they are stored, and beside each as the model sees it in training.

    images: uint8 [N, H, W, C]. draws: uint8 [N, D, H', W', C], D augmented versions of each image.
    names: of the N images' classes.
    """
    labels = [fonts.shorten(name) for name in names]
    label_width = fonts.widest(labels, NAME_SIZE) + 12
    stored = [tile(image, BATCH_SIDE) for image in images]
    augmented = [[tile(draw, BATCH_SIDE) for draw in row] for row in draws]
    tiles = [*stored, *(pixels for row in augmented for pixels in row)]
    gap = 6
    margin = 14
    height = max(pixels.shape[0] for pixels in tiles) + gap
    width = max(pixels.shape[1] for pixels in tiles) + gap
    top = margin + 22
    left = margin + label_width
    split = left + width + 10

    canvas = Canvas(
        width=margin + split + draws.shape[1] * width,
        height=top + len(images) * height + margin,
    )
    heading = {"size": NAME_SIZE, "colour": style.GREY, "va": "center"}
    canvas.text(left, margin + 8, "stored", **heading)
    canvas.text(split, margin + 8, "as the model sees it in training", **heading)
    for i, label in enumerate(labels):
        y = top + i * height
        middle = y + (height - gap) / 2
        canvas.text(
            left - 10,
            middle,
            label,
            size=NAME_SIZE,
            ha="right",
            va="center",
        )
        canvas.image(left, y, stored[i])
        for n, pixels in enumerate(augmented[i]):
            canvas.image(split + n * width, y, pixels)
    return canvas.figure()
