"""Figures of one run. Importing this imports matplotlib: import it where figures are made, not at the top of a module.

Every function returns a `matplotlib.figure.Figure` made without pyplot, so nothing global is touched.
"""

import bisect
import dataclasses
import functools
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator
from PIL import Image

from imgcls_jax.data.dataset import Dataset
from imgcls_jax.evaluation.scores import DENSE_CLASSES, Confusion
from imgcls_jax.files import write_atomically
from imgcls_jax.reporting import fonts

DPI = 110
INK, GREY, RULE = "#2b2f36", "#7b828d", "#e4e7eb"
BLUE, ORANGE, RED = "#3f72a6", "#d9863d", "#b94a48"
MOST_MISTAKES = 24
MOST_CONFUSED = 30  # classes in the picture of the confusion matrix, where it cannot show all


def save(figure: Figure, path: Path, *, exact: bool = False) -> None:
    """Writes the figure as PNG of 256 colours: a third of the size, and hard to tell from the original.

    exact: all its colours, where there are gradual ones.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    image = Image.open(buffer).convert("RGB")
    if not exact:
        image = image.quantize(256, method=Image.Quantize.MEDIANCUT)
    buffer = io.BytesIO()
    image.save(buffer, format="png", optimize=True)
    write_atomically(Path(path), buffer.getvalue())


def curves(history: Sequence[dict[str, Any]], best_epoch: int | None = None) -> Figure:
    """Loss, accuracy and learning rate against the epoch; `best_epoch` is the epoch whose weights were kept."""
    figure = Figure(figsize=(7.2, 6), layout="constrained", facecolor="white")
    figure.get_layout_engine().set(h_pad=0.06, w_pad=0.06)
    loss, accuracy, rate = figure.subplots(3, sharex=True, height_ratios=(5, 5, 2))
    epochs = [line["epoch"] for line in history]
    marker = "o" if len(epochs) < 2 else None  # a line of one point would not show

    for axes, key, scale in ((loss, "loss", 1), (accuracy, "accuracy", 100)):
        for split, colour in (("train", BLUE), ("validation", ORANGE)):
            values = [scale * line[f"{split}_{key}"] for line in history]
            axes.plot(epochs, values, color=colour, linewidth=1.8, marker=marker, label=split)
            if split == "validation" and best_epoch in epochs:
                value = values[epochs.index(best_epoch)]
                axes.plot(
                    best_epoch,
                    value,
                    "o",
                    color=colour,
                    markeredgecolor="white",
                    markersize=8,
                    clip_on=False,
                )
    rate.plot(
        epochs,
        [line["learning_rate"] for line in history],
        color=GREY,
        linewidth=1.6,
        marker=marker,
    )

    for axes, title in ((loss, "Loss"), (accuracy, "Accuracy, %"), (rate, "Learning rate")):
        plain(axes)
        axes.set_title(title, loc="left", fontsize=10.5, color=INK, fontweight="bold")
        axes.yaxis.set_major_locator(MaxNLocator(5))
        if best_epoch in epochs:
            axes.axvline(best_epoch, color=ORANGE, linewidth=1, linestyle=(0, (3, 3)), zorder=1)
    highest = max((line["learning_rate"] for line in history), default=0) or 1
    rate.set_ylim(0, 1.08 * highest)
    rate.set_yticks([0, highest], ["0", f"{highest:.3g}"])
    rate.set_xlabel("Epoch", fontsize=9.5, color=INK)
    rate.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if epochs:
        spare = 0.5 if len(epochs) == 1 else 0
        rate.set_xlim(epochs[0] - spare, epochs[-1] + spare)
    handles, labels = loss.get_legend_handles_labels()
    if best_epoch in epochs:
        handles.append(loss.lines[2])
        labels.append(f"best, epoch {best_epoch}")
    legend = loss.legend(
        handles,
        labels,
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=3,
        frameon=False,
        fontsize=9,
        borderaxespad=0.2,
    )
    for text in legend.get_texts():
        text.set_color(INK)
    return figure


def confusion(matrix: Confusion | Sequence[Sequence[int]], class_names: Sequence[str]) -> Figure:
    """A confusion matrix, or its counts [K][K]: rows true, columns predicted; blue hits, red errors, by row share.

    Of more than DENSE_CLASSES classes the MOST_CONFUSED that are confused most are shown, and the picture says so.
    """
    found = matrix if isinstance(matrix, Confusion) else Confusion.dense(matrix)
    shown = shown_of_confusion(found, most=DENSE_CLASSES, cut_to=MOST_CONFUSED)
    classes, counts = len(shown), found.matrix(shown)
    colours, strength = confusion_colours(counts, found.rows[shown])

    side = np.clip(11 / classes, 0.2, 1.0 if classes < 6 else 0.58)  # inches a cell
    fontsize = np.clip(15 * side, 7, 9)
    names = [short(class_names[k]) for k in shown]
    longest = max(_width(name, fontsize) for name in names) / 72
    rotation = 90 if classes > 12 else 40 if longest > 0.9 * side else 0
    left, right, top = longest + 0.55, 0.12, 0.12 if classes == found.classes else 0.42
    bottom = longest * np.sin(np.radians(rotation)) + 0.55
    width, height = left + side * classes + right, bottom + side * classes + top
    figure = Figure(figsize=(width, height), facecolor="white")
    axes = figure.add_axes(
        (left / width, bottom / height, side * classes / width, side * classes / height)
    )
    axes.imshow(colours, interpolation="nearest")
    if classes <= 30:
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "white" if strength[row, column, 0] > 0.55 else INK
            text = str(counts[row, column])
            size = min(9, 72 * side * 1.45 / max(len(text), 3))
            axes.text(column, row, text, ha="center", va="center", fontsize=size, color=colour)
    aligned = {"ha": "right", "rotation_mode": "anchor"} if rotation == 40 else {}
    axes.set_xticks(
        range(classes), names, rotation=rotation, fontsize=fontsize, color=INK, **aligned
    )
    axes.set_yticks(range(classes), names, fontsize=fontsize, color=INK)
    axes.set_xticks(np.arange(classes - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(classes - 1) + 0.5, minor=True)
    axes.grid(which="minor", color=RULE, linewidth=0.8 if classes <= 30 else 0.3)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_color(RULE)
    title = {"fontsize": 10, "color": INK, "fontweight": "bold"}
    figure.text(
        (left + side * classes / 2) / width, 0.12 / height, "Predicted", ha="center", **title
    )
    figure.text(
        0.1 / width,
        (bottom + side * classes / 2) / height,
        "True",
        va="center",
        rotation=90,
        **title,
    )
    if classes < found.classes:
        words = (
            f"The {classes} of {found.classes:,} classes that are confused most; shares are of all "
            "images of a class"
        )
        figure.text(0.12 / width, 1 - 0.12 / height, words, va="top", fontsize=9, color=GREY)
    return figure


def shown_of_confusion(found: Confusion, *, most: int, cut_to: int) -> np.ndarray:
    """The classes that a picture has room for: all, or where they are more than `most` the `cut_to` most confused."""
    return np.arange(found.classes) if found.classes <= most else found.most_confused(cut_to)


def confusion_colours(counts: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """RGB [K, K, 3] and strength [K, K, 1] of a part of a confusion matrix: blue for hits and red for errors.

    rows: [K], the examples of each class, of which the share is taken.
    """
    share = counts / np.maximum(rows, 1)[:, None]
    hit = np.eye(len(counts), dtype=bool)[..., None]
    strength = np.where(
        hit, share[..., None], np.sqrt(share[..., None])
    )  # the root lets errors of 1 % be seen
    return 1 - strength * (1 - np.where(hit, _rgb(BLUE), _rgb(RED))), strength


def sample_grid(dataset: Dataset, indices: Sequence[np.ndarray]) -> Figure:
    """The examples at `indices`, for each of the K classes some: a row a class, with its name at the left.

    More than 25 classes stand in several columns of rows.
    """
    classes, samples = len(indices), max(map(len, indices), default=0)
    blocks = -(-classes // 25)
    rows = -(-classes // blocks)
    side = 64 if classes <= 25 else 40
    tile_height, tile_width = tile_shape(dataset, side)
    names = [short(name) for name in dataset.class_names[:classes]]
    label = _widest(names, 10) + 10
    gap, margin = 4, 12
    block = label + samples * (tile_width + gap) + 20

    canvas = Canvas(
        width=2 * margin + blocks * block - 20 - gap,
        height=2 * margin + rows * (tile_height + gap) - gap,
    )
    for k in range(classes):
        x, y = margin + k // rows * block + label, margin + k % rows * (tile_height + gap)
        canvas.text(x - 10, y + tile_height / 2, names[k], 10, INK, ha="right", va="center")
        for n, index in enumerate(indices[k]):
            canvas.image(x + n * (tile_width + gap), y, tile(dataset.images[index], side))
    return canvas.figure()


def most_confident_mistakes(
    probabilities: np.ndarray, labels: np.ndarray, most: int = MOST_MISTAKES
) -> np.ndarray:
    """Indices of wrongly classified examples of probabilities [N, K], the most confident first."""
    wrong = np.flatnonzero(probabilities.argmax(axis=-1) != labels)
    return wrong[np.argsort(-probabilities[wrong].max(axis=-1), kind="stable")][:most]


def batch(images: np.ndarray, seen: np.ndarray, names: Sequence[str]) -> Figure:
    """Images as they are stored and as the model sees them in training.

    images: uint8 [N, H, W, C], at the left; seen: uint8 [N, D, H', W', C], D draws of each beside it; names [N].
    """
    side, gap, margin = 88, 6, 14
    labels = [short(name) for name in names]
    label = _widest(labels, 10) + 12
    tiles = [
        [tile(image, side), *(tile(draw, side) for draw in draws)]
        for image, draws in zip(images, seen, strict=True)
    ]
    height = max(each.shape[0] for row in tiles for each in row) + gap
    width = max(each.shape[1] for row in tiles for each in row) + gap
    top, split = margin + 22, label + width + 10
    canvas = Canvas(
        width=2 * margin + split + seen.shape[1] * width, height=top + len(tiles) * height + margin
    )
    canvas.text(margin + label, margin + 8, "stored", 10, GREY, va="center")
    canvas.text(
        margin + split, margin + 8, "as the model sees it in training", 10, GREY, va="center"
    )
    for i, row in enumerate(tiles):
        y = top + i * height
        canvas.text(
            margin + label - 10, y + (height - gap) / 2, labels[i], 10, INK, ha="right", va="center"
        )
        for n, each in enumerate(row):
            canvas.image(margin + (label if not n else split + (n - 1) * width), y, each)
    return canvas.figure()


def mistakes(
    dataset: Dataset, probabilities: np.ndarray, indices: np.ndarray | None = None
) -> Figure:
    """Misclassified examples with true class, predicted class and confidence.

    dataset: the N examples of probabilities [N, K]; indices: which to show, by default the most confident mistakes.
    """
    if indices is None:
        indices = most_confident_mistakes(probabilities, dataset.labels)
    if not len(indices):
        canvas = Canvas(width=480, height=80)
        canvas.text(240, 40, "No example is misclassified.", 11, INK, ha="center", va="center")
        return canvas.figure()

    captions = []
    for index in indices:
        predicted = probabilities[index].argmax()
        true_name = short(dataset.class_names[dataset.labels[index]], 16)
        predicted_name = short(dataset.class_names[predicted], 16)
        confidence = percent(probabilities[index, predicted])
        captions.append(
            ((f"{true_name} \N{RIGHTWARDS ARROW}", INK), (f"{predicted_name}  {confidence}", RED))
        )
    return captioned(dataset.images[indices], captions, side=120)


def captioned(
    images: Sequence[np.ndarray], captions: Sequence[Sequence[tuple[str, str]]], *, side: int
) -> Figure:
    """Images uint8 of one shape [H, W, C], about `side` pixels long, each above the two lines of its caption.

    captions: for each image the text and the colour of each line.
    """
    tiles = [tile(image, side) for image in images]
    tile_height, tile_width = tiles[0].shape[:2]
    space, margin = 20, 12
    cell_width = (
        max(tile_width, _widest((text for lines in captions for text, _ in lines), 8.5)) + space
    )
    cell_height = tile_height + 52
    columns = min(len(tiles), max(int(1000 // cell_width), 1))
    rows = -(-len(tiles) // columns)
    canvas = Canvas(
        width=2 * margin + columns * cell_width - space,
        height=2 * margin + rows * cell_height - 14,
    )
    for n, (each, lines) in enumerate(zip(tiles, captions, strict=True)):
        x, y = margin + n % columns * cell_width, margin + n // columns * cell_height
        canvas.image(x, y, each)
        for line, (text, colour) in enumerate(lines):
            canvas.text(x, y + tile_height + 16 * (line + 1), text, 8.5, colour)
    return canvas.figure()


def plain(axes: Any) -> None:
    """The look of all charts: a bottom line, horizontal rules, no box."""
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GREY)
    axes.grid(axis="y", color=RULE, linewidth=0.9)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9, length=0, labelcolor=INK)


def percent(share: float) -> str:
    """`97.3 %`, never rounded up to 100."""
    return f"{min(100 * share, 99.9) if share < 1 else 100:.1f} %"


def tile(image: np.ndarray, side: int) -> np.ndarray:
    """The uint8 image [H, W, C] as RGB, about `side` pixels long: enlarged by whole pixels, or shrunk to fit."""
    rgb = np.broadcast_to(image, (*image.shape[:2], 3))
    longest = max(image.shape[:2])
    if longest > side:
        small = Image.fromarray(np.ascontiguousarray(rgb))
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        return np.asarray(small)
    enlarge = round(side / longest)
    return rgb.repeat(enlarge, axis=0).repeat(enlarge, axis=1)


def tile_shape(dataset: Dataset, side: int) -> tuple[int, int]:
    return tile(np.zeros(dataset.images.shape[1:], np.uint8), side).shape[:2]


class Canvas:
    """A figure laid out in pixels, the origin at the upper left, so that images are drawn unresampled."""

    def __init__(self, *, width: float, height: float):
        self.width, self.height = round(width), round(height)
        self._figure = Figure(
            figsize=(self.width / DPI, self.height / DPI), dpi=DPI, facecolor="white"
        )
        self._pixels = np.full((self.height, self.width, 3), 255, np.uint8)

    def image(self, x: float, y: float, rgb: np.ndarray) -> None:
        top, left = round(y), round(x)
        self._pixels[top : top + rgb.shape[0], left : left + rgb.shape[1]] = rgb

    def text(
        self, x: float, y: float, text: str, size: float, colour: str, **alignment: str
    ) -> None:
        self._figure.text(
            x / self.width, 1 - y / self.height, text, fontsize=size, color=colour, **alignment
        )

    def figure(self) -> Figure:
        axes = self._figure.add_axes((0, 0, 1, 1), frameon=False)
        axes.set_axis_off()
        axes.imshow(self._pixels, interpolation="nearest", aspect="auto")
        return self._figure


def pictured(dataset: Dataset) -> Dataset:
    """The data set with its class names as pictures show them."""
    return dataclasses.replace(dataset, class_names=tuple(fonts.legible(dataset.class_names)))


def short(name: str, longest: int = 22) -> str:
    """A name that fits, with matplotlib's math mode kept out of it, and a mark for what no font has."""
    name = fonts.drawable(name)
    name = name if len(name) <= longest else name[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return name.replace("$", r"\$")


def fit(name: str, size: float, width: float) -> str:
    """The name, shortened as far as it takes to be no wider than `width` points at that font size."""
    if _width(short(name, len(name)), size) <= width:
        return short(name, len(name))
    longest = bisect.bisect(range(1, len(name)), width, key=lambda n: _width(short(name, n), size))
    return short(name, max(longest, 1))


def _widest(texts: Iterable[str], size: float) -> float:
    """Width of the widest of the texts in pixels."""
    return max(_width(text, size) for text in texts) * DPI / 72


@functools.lru_cache(4096)
def _width(text: str, size: float) -> float:
    """Width of the text in points."""
    return TextPath((0, 0), text, size=size).get_extents().width


def _rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
