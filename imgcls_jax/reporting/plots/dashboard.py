"""One figure of a run: curves, classes, confusions and mistakes side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec

from imgcls_jax.data.dataset import Dataset
from imgcls_jax.evaluation.scores import Confusion
from imgcls_jax.reporting import formats
from imgcls_jax.reporting.plots import confusion, curves, fonts, images, style

MISTAKES = 12
MISTAKE_COLUMNS = 4
VALUE_SIZE = 15  # points, of the figures at the top
CAPTION_SIZE = 9.5
MOST_CLASSES = 20  # whose names and figures there is room for
TITLE = style.TITLE | {"fontsize": 11.5, "pad": 9}
ARROW = "\N{RIGHTWARDS ARROW}"

Scores = Mapping[str, Any]  # of test.json, or a part of it


def draw(
    name: str,
    facts: Mapping[str, str],
    *,
    history: curves.History,
    scores: Scores,
    test: Dataset,
    probabilities: np.ndarray,
) -> Figure:
    """The dashboard of a run called `name`.

    facts: the figures in large type at the top, by their captions. test: with class names that can
    be drawn. probabilities: [N, K], of the test set.
    """
    figure = Figure(figsize=(14.5, 10.4), facecolor="white")
    _heading(figure, name, facts)
    upper = figure.add_gridspec(
        1,
        2,
        left=0.05,
        right=0.645,
        top=0.84,
        bottom=0.575,
        wspace=0.2,
    )
    right = figure.add_gridspec(
        1,
        1,
        left=0.765,
        right=0.975,
        top=0.84,
        bottom=0.575,
    )
    lower = figure.add_gridspec(
        1,
        3,
        left=0.085,
        right=0.975,
        top=0.5,
        bottom=0.075,
        wspace=0.32,
        width_ratios=(1.05, 0.62, 1.35),
    )
    best_epoch = scores["best_epoch"]
    loss = figure.add_subplot(upper[0])
    _curve(loss, history, "loss", best_epoch=best_epoch)
    loss.set_title("Loss", **TITLE)
    accuracy = figure.add_subplot(upper[1])
    _curve(accuracy, history, "accuracy", best_epoch=best_epoch, scale=100)
    accuracy.set_title("Accuracy, %", **TITLE)

    drawn_names = {}  # by the names in the scores
    for row, drawn_name in zip(scores["per_class"], test.class_names, strict=False):
        drawn_names[row["name"]] = drawn_name
    _classes(figure.add_subplot(right[0]), scores["per_class"], drawn_names)
    _confusion(figure.add_subplot(lower[0]), Confusion.from_scores(scores), test.class_names)
    _pairs(figure.add_subplot(lower[1]), scores["confused_pairs"], drawn_names)
    _mistakes(lower[2], test, probabilities)
    return figure


def _heading(figure: Figure, name: str, facts: Mapping[str, str]) -> None:
    shown_name = fonts.fit(name, size=19, width=900)
    text = {"color": style.INK, "va": "center"}
    figure.text(
        0.03,
        0.965,
        shown_name,
        fontsize=19,
        fontweight="bold",
        **text,
    )
    points = 72 * figure.get_figwidth()
    widths = []
    for caption, value in facts.items():
        widest = max(fonts.text_width(value, VALUE_SIZE), fonts.text_width(caption, CAPTION_SIZE))
        widths.append(widest / points)
    gap = (0.94 - sum(widths)) / len(facts)
    x = 0.03
    for (caption, value), width in zip(facts.items(), widths, strict=True):
        figure.text(x, 0.918, value, fontsize=VALUE_SIZE, **text)
        figure.text(
            x,
            0.892,
            caption,
            fontsize=CAPTION_SIZE,
            color=style.GREY,
            va="center",
        )
        x += width + gap


def _curve(
    axes: Axes,
    history: curves.History,
    key: str,
    *,
    best_epoch: int,
    scale: float = 1,
) -> None:
    curves.draw_metric(axes, history, key, scale=scale)
    axes.axvline(best_epoch, color=style.GREY, label=f"best, epoch {best_epoch}", **style.DASHED)
    style.tidy(axes)
    axes.legend(**style.LEGEND)
    curves.epoch_axis(axes)
    if len(history) == 1:
        curves.widen(axes, history[0]["epoch"])


def _classes(axes: Axes, per_class: Sequence[Scores], drawn_names: Mapping[str, str]) -> None:
    """F1 of the classes that have test images, the worst at the bottom."""
    tested = [row for row in per_class if row["support"]]
    worst = sorted(tested, key=lambda row: row["f1"])[:MOST_CLASSES]
    rows = worst[::-1]
    values = [100 * row["f1"] for row in rows]
    axes.barh(range(len(rows)), values, color=style.BLUE, height=0.7)
    for y, value in enumerate(values):
        axes.text(
            value,
            y,
            f" {value:.1f}",
            va="center",
            fontsize=8.5,
            color=style.INK,
        )
    names = [drawn_names[row["name"]] for row in rows]
    labels = [fonts.fit(name, size=9, width=90) for name in names]
    axes.set_yticks(range(len(rows)), labels)
    # From 0, since the lengths of bars are compared; there is room for the last figure.
    axes.set_xlim(0, 114)
    style.tidy(axes)
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    title = "F1 by class, %"
    if len(per_class) > MOST_CLASSES:
        title = f"F1 of the {MOST_CLASSES} worst classes, %"
    axes.set_title(title, **TITLE)


def _confusion(axes: Axes, matrix: Confusion, class_names: Sequence[str]) -> None:
    shown, counts = confusion.most_confused_part(matrix, most=MOST_CLASSES, cut_to=MOST_CLASSES)
    colours, strength = confusion.cell_colours(counts, matrix.support[shown])
    axes.imshow(colours, interpolation="nearest")
    text = {"fontsize": min(8, 120 / len(counts)), "ha": "center", "va": "center"}
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = confusion.count_colour(strength[row, column, 0])
        axes.text(
            column,
            row,
            counts[row, column],
            color=colour,
            **text,
        )
    names = [fonts.fit(class_names[k], size=8.5, width=62) for k in shown]
    places = range(len(names))
    slanted = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(places, names, fontsize=8.5, **slanted)
    axes.set_yticks(places, names, fontsize=8.5)
    axes.set_anchor("N")
    axes.tick_params(length=0, labelcolor=style.INK)
    axes.spines[:].set_color(style.RULE)
    title = "Confusion: true rows, predicted columns"
    if len(shown) < matrix.num_classes:
        title = f"{len(shown)} most confused classes, true by rows"
    axes.set_title(title, **TITLE)


def _pairs(axes: Axes, pairs: Sequence[Scores], drawn_names: Mapping[str, str]) -> None:
    axes.set_title("Most confused", **TITLE)
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(9.5, -0.5)
    if not pairs:
        _no_mistakes(axes, y=0)
        return
    most = pairs[0]["count"]
    for y, pair in enumerate(pairs):
        length = 0.98 * pair["count"] / most
        axes.barh(
            y + 0.2,
            length,
            color=style.RED,
            height=0.2,
            alpha=0.75,
        )
        true = drawn_names.get(pair["true"], pair["true"])
        predicted = drawn_names.get(pair["predicted"], pair["predicted"])
        text = f"{_pair_name(true)} {ARROW} {_pair_name(predicted)}"
        middle = y - 0.08
        axes.text(0, middle, text, va="center", **style.NUMBER)
        axes.text(
            1,
            middle,
            pair["count"],
            va="center",
            ha="right",
            **style.NUMBER,
        )


def _pair_name(name: str) -> str:
    return fonts.fit(name, size=9, width=54)


def _mistakes(place: SubplotSpec, test: Dataset, probabilities: np.ndarray) -> None:
    """The most confident mistakes in a grid within the place."""
    wrong = images.most_confident_mistakes(probabilities, test.labels, MISTAKES)
    rows = MISTAKES // MISTAKE_COLUMNS
    grid = place.subgridspec(rows, MISTAKE_COLUMNS, wspace=0.08, hspace=0.42).subplots()
    cells = grid.ravel()
    for axes in cells:
        axes.set_axis_off()
    cells[0].set_title("Most confident mistakes", **TITLE)
    if not len(wrong):
        _no_mistakes(cells[0], y=0.9)
    for axes, index in zip(cells, wrong, strict=False):
        _mistake(axes, test, index, probabilities[index])


def _mistake(
    axes: Axes,
    test: Dataset,
    index: int,
    probabilities: np.ndarray,
) -> None:
    image = test.images[index]
    rgb = np.broadcast_to(image, (*image.shape[:2], 3))
    axes.imshow(rgb, interpolation="nearest")
    predicted = probabilities.argmax()
    confidence = formats.confidence(probabilities[predicted])
    label = test.labels[index]
    true_name = fonts.fit(test.class_names[label], size=8, width=48)
    predicted_name = fonts.fit(test.class_names[predicted], size=8, width=48)
    caption = {"transform": axes.transAxes, "fontsize": 8, "va": "top"}
    axes.text(
        0,
        -0.04,
        f"{true_name} {ARROW}",
        color=style.INK,
        **caption,
    )
    axes.text(
        0,
        -0.18,
        f"{predicted_name} {confidence}",
        color=style.RED,
        **caption,
    )


def _no_mistakes(axes: Axes, *, y: float) -> None:
    axes.text(
        0,
        y,
        "no mistakes",
        fontsize=9.5,
        color=style.GREY,
    )
