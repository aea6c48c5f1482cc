"""One picture of a run: curves, classes, confusions and mistakes side by side. Imports matplotlib, as plots.py does."""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from imgcls_jax.data.dataset import Dataset
from imgcls_jax.evaluation.scores import Confusion
from imgcls_jax.reporting import plots
from imgcls_jax.reporting.plots import BLUE, GREY, INK, ORANGE, RED

MISTAKES = 12
MOST_CLASSES = 20  # whose names and figures there is room for


def draw(
    name: str,
    facts: Mapping[str, str],
    *,
    history: Sequence[Mapping[str, Any]],
    scores: Mapping[str, Any],
    test: Dataset,
    probabilities: np.ndarray,
) -> Figure:
    """The dashboard of a run called `name`; facts: what stands large at the top, by its caption."""
    figure = Figure(figsize=(14.5, 10.4), facecolor="white")
    figure.text(
        0.03,
        0.965,
        plots.fit(name, 19, 900),
        fontsize=19,
        color=INK,
        fontweight="bold",
        va="center",
    )
    for i, (caption, value) in enumerate(facts.items()):
        x = 0.03 + 0.94 / len(facts) * i
        figure.text(x, 0.918, value, fontsize=15, color=INK, va="center")
        figure.text(x, 0.892, caption, fontsize=9.5, color=GREY, va="center")
    upper = figure.add_gridspec(1, 2, left=0.05, right=0.645, top=0.84, bottom=0.575, wspace=0.2)
    classes = figure.add_gridspec(1, 1, left=0.765, right=0.975, top=0.84, bottom=0.575)
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
    best = scores["best_epoch"]
    _curve(figure.add_subplot(upper[0]), "Loss", history, "loss", 1, best)
    _curve(figure.add_subplot(upper[1]), "Accuracy, %", history, "accuracy", 100, best)
    names = dict(zip((row["name"] for row in scores["per_class"]), test.class_names, strict=False))
    _classes(figure.add_subplot(classes[0]), scores["per_class"], names)
    _confusion(figure.add_subplot(lower[0]), Confusion.read(scores), test.class_names)
    _pairs(figure.add_subplot(lower[1]), scores["confused_pairs"], names)
    _mistakes(figure, lower[2], test, probabilities)
    return figure


def _title(axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=11.5, color=INK, fontweight="bold", pad=9)


def _curve(axes, title: str, history, key: str, scale: float, best: int) -> None:
    epochs = [line["epoch"] for line in history]
    for split, colour in (("train", BLUE), ("validation", ORANGE)):
        values = [scale * line[f"{split}_{key}"] for line in history]
        axes.plot(
            epochs,
            values,
            color=colour,
            linewidth=1.8,
            label=split,
            marker="o" if len(epochs) < 2 else None,
        )
    axes.axvline(best, color=GREY, linewidth=1, linestyle=(0, (3, 3)), label=f"best, epoch {best}")
    plots.plain(axes)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    axes.set_xlabel("Epoch", fontsize=9.5, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if len(epochs) == 1:
        axes.set_xlim(epochs[0] - 0.5, epochs[0] + 0.5)
    _title(axes, title)


def _classes(axes, per_class: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> None:
    """names: of the classes in pictures, by their own."""
    rows = sorted(filter(itemgetter("support"), per_class), key=itemgetter("f1"))[:MOST_CLASSES][
        ::-1
    ]
    values = [100 * row["f1"] for row in rows]
    axes.barh(range(len(rows)), values, color=BLUE, height=0.7)
    for y, value in enumerate(values):
        axes.text(value, y, f" {value:.1f}", va="center", fontsize=8.5, color=INK)
    axes.set_yticks(range(len(rows)), [plots.fit(names[row["name"]], 9, 90) for row in rows])
    axes.set_xlim(
        0, 114
    )  # from 0: bars that began elsewhere would tell of other ratios; room for the last figure
    plots.plain(axes)
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    _title(
        axes,
        "F1 by class, %"
        if len(per_class) <= MOST_CLASSES
        else f"F1 of the {MOST_CLASSES} worst classes, %",
    )


def _confusion(axes, found: Confusion, class_names: Sequence[str]) -> None:
    shown = plots.shown_of_confusion(found, most=MOST_CLASSES, cut_to=MOST_CLASSES)
    counts = found.matrix(shown)
    colours, strength = plots.confusion_colours(counts, found.rows[shown])
    axes.imshow(colours, interpolation="nearest")
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = "white" if strength[row, column, 0] > 0.55 else INK
        text = {"fontsize": min(8, 120 / len(counts)), "color": colour}
        axes.text(column, row, counts[row, column], ha="center", va="center", **text)
    names = [plots.fit(class_names[k], 8.5, 62) for k in shown]
    axes.set_xticks(
        range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor", fontsize=8.5
    )
    axes.set_yticks(range(len(names)), names, fontsize=8.5)
    axes.set_anchor("N")
    axes.tick_params(length=0, labelcolor=INK)
    axes.spines[:].set_color(plots.RULE)
    cut = len(shown) < found.classes
    _title(
        axes,
        f"{len(shown)} most confused classes, true by rows"
        if cut
        else "Confusion: true rows, predicted columns",
    )


def _pairs(axes, pairs: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> None:
    _title(axes, "Most confused")
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(9.5, -0.5)
    most = pairs[0]["count"] if pairs else 1
    for y, pair in enumerate(pairs):
        axes.barh(y + 0.2, 0.98 * pair["count"] / most, color=RED, height=0.2, alpha=0.75)
        both = (plots.fit(names.get(pair[key], pair[key]), 9, 54) for key in ("true", "predicted"))
        axes.text(
            0, y - 0.08, " \N{RIGHTWARDS ARROW} ".join(both), fontsize=9, color=INK, va="center"
        )
        axes.text(1, y - 0.08, pair["count"], fontsize=9, color=INK, va="center", ha="right")
    if not pairs:
        axes.text(0, 0, "no mistakes", fontsize=9.5, color=GREY)


def _mistakes(figure: Figure, place, test: Dataset, probabilities: np.ndarray) -> None:
    wrong = plots.most_confident_mistakes(probabilities, test.labels, MISTAKES)
    grid = place.subgridspec(3, 4, wspace=0.08, hspace=0.42)
    for n in range(MISTAKES):
        axes = figure.add_subplot(grid[n // 4, n % 4])
        axes.set_axis_off()
        if n == 0:
            _title(axes, "Most confident mistakes")
            if not len(wrong):
                axes.text(0, 0.9, "no mistakes", fontsize=9.5, color=GREY)
        if n >= len(wrong):
            continue
        index, image = wrong[n], test.images[wrong[n]]
        axes.imshow(np.broadcast_to(image, (*image.shape[:2], 3)), interpolation="nearest")
        predicted = probabilities[index].argmax()
        true, taken = (
            plots.fit(test.class_names[k], 8, 48) for k in (test.labels[index], predicted)
        )
        caption = {"transform": axes.transAxes, "fontsize": 8, "va": "top"}
        axes.text(0, -0.04, f"{true} \N{RIGHTWARDS ARROW}", color=INK, **caption)
        axes.text(
            0,
            -0.18,
            f"{taken} {plots.percent(probabilities[index, predicted])}",
            color=RED,
            **caption,
        )
