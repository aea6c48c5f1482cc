"""An ensemble as a figure: its accuracy beside its members', and where these differ."""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from imgcls_jax.reporting import formats
from imgcls_jax.reporting.plots import calibration, fonts, style

UNCERTAINTIES = {"entropy": style.BLUE, "mutual_information": style.ORANGE}


def draw(summary: Mapping[str, Any], *, narrow: bool = False) -> Figure:
    """Accuracies of members and ensemble, how often two members differ, and rejection curves.

    summary: as in ensemble.json. narrow: for a phone, one below the other.
    """
    members = summary["members"]
    longest_name = 14 if narrow else 24
    names = []
    for number, member in enumerate(members, 1):
        name = PurePosixPath(member["run"]).name
        names.append(f"{number} {fonts.shorten(name, longest_name)}")
    height = max(3.4, 1.6 + 0.45 * len(names))
    if narrow:
        figure = style.chart(style.NARROW, height + 6.4)
        parts = figure.subfigures(3, 1, height_ratios=(height, 3.2, 3.2))
        first, second, third = [part.subplots() for part in parts]
    else:
        figure = style.chart(12, height)
        first, second, third = figure.subplots(1, 3, width_ratios=(5, 4, 4))
    accuracies = [100 * member["accuracy"] for member in members]
    _accuracies(first, names, accuracies, of_ensemble=100 * summary["test"]["accuracy"])
    _disagreement(second, 100 * np.array(summary["disagreement"]))
    for key, colour in UNCERTAINTIES.items():
        points = summary["rejection"][key]
        calibration.draw_rejection(third, points, colour=colour, label=formats.words(key))
    # Below the curves, which it would cover inside.
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2), "ncols": 2}
    third.legend(**below, **style.LEGEND)
    return figure


def _accuracies(
    axes: Axes,
    names: Sequence[str],
    accuracies: Sequence[float],
    *,
    of_ensemble: float,
) -> None:
    """A dot for each member and, at the bottom, for the ensemble."""
    values = [*accuracies, of_ensemble]
    lowest = min(values)
    for y, value in enumerate(values):
        colour = style.BLUE if y < len(names) else style.ORANGE
        axes.plot(
            [lowest, value],
            [y, y],
            color=colour,
            linewidth=2,
            alpha=0.35,
        )
        axes.plot(
            value,
            y,
            "o",
            color=colour,
            markersize=8,
        )
        axes.annotate(
            f"{value:.2f}",
            (value, y),
            xytext=(0, 8),
            textcoords="offset points",
            ha="center",
            fontsize=9,
        )
    axes.set_yticks(range(len(values)), [*names, "ensemble"])
    axes.set_ylim(len(values) - 0.5, -0.7)
    axes.margins(x=0.15)
    axes.set_title("Test accuracy, %", **style.TITLE)
    style.tidy(axes)


def _disagreement(axes: Axes, shares: np.ndarray) -> None:
    """shares: [members, members], the percentage of images on which two members differ."""
    darkest = 3 * max(shares.max(), 1e-9)  # the numbers stay legible on the largest
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=darkest)
    for (row, column), share in np.ndenumerate(shares):
        if row != column:
            text = f"{share:.1f}"
            axes.text(
                column,
                row,
                text,
                ha="center",
                va="center",
                **style.NUMBER,
            )
    places = range(len(shares))
    numbers = [str(place + 1) for place in places]
    axes.set_xticks(places, numbers)
    axes.set_yticks(places, numbers)
    axes.tick_params(length=0, labelcolor=style.INK)
    axes.spines[:].set_visible(False)
    axes.set_title("Two members differ on, %", **style.TITLE)
