"""Accuracy under corruptions as a figure."""

import itertools
from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from imgcls_jax.reporting import formats
from imgcls_jax.reporting.plots import style

COLUMNS = 5
TITLE = style.TITLE | {"fontsize": 10}


def draw(results: Mapping[str, Any]) -> Figure:
    """A small chart a corruption: accuracy against severity, and a dashed line for clean images.

    results: as in robustness.json.
    """
    corruptions = results["corruptions"]
    clean = 100 * results["clean"]
    accuracies = {}
    for name, shares in corruptions.items():
        accuracies[name] = [100 * share for share in shares]
    rows = -(-len(corruptions) // COLUMNS)
    figure = style.chart(11, 0.3 + 2.1 * rows)
    grid = figure.subplots(
        rows,
        COLUMNS,
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    # Of a few images, more may be right corrupted than clean.
    values = [clean, *itertools.chain(*accuracies.values())]
    low = max(min(values) - 8, 0)
    high = min(max(values) + 5, 100)
    for axes, (name, line) in zip(grid.flat, accuracies.items(), strict=False):
        axes.axhline(clean, color=style.GREY, **style.DASHED)
        severities = range(1, len(line) + 1)
        axes.plot(
            severities,
            line,
            "o-",
            color=style.BLUE,
            linewidth=style.CURVE_WIDTH,
            markersize=4,
            clip_on=False,
        )
        axes.set_title(formats.title(name), **TITLE)
        axes.set_xticks(severities)
        axes.set_ylim(low, high)
        style.tidy(axes)
    for axes in grid.flat[len(corruptions) :]:
        axes.set_visible(False)
    figure.supylabel("Test accuracy, %", **style.LABEL)
    figure.supxlabel("Severity (dashed: clean images)", **style.LABEL)
    return figure
