"""Reliability diagrams and rejection curves."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from imgcls_jax.evaluation.calibration import NUM_BINS
from imgcls_jax.reporting import formats
from imgcls_jax.reporting.plots import style

BIN_WIDTH = 100 / NUM_BINS  # percent of confidence
BAR_WIDTH = 0.92 * BIN_WIDTH

Figures = Mapping[str, Any]  # of calibration.json, or a part of it


def draw(results: Figures, *, narrow: bool = False) -> Figure:
    """Reliability diagrams as trained and at the fitted temperature, and the rejection curve.

    results: as in calibration.json. narrow: for a phone, one below the other.
    """
    if narrow:
        figure = style.chart(style.NARROW, 9.5)
        trained, scaled, rejection = figure.subplots(3, 1)
        scaled.set_ylabel("Accuracy, %", **style.LABEL)
    else:
        figure = style.chart(10.5, 3.7)
        trained, scaled, rejection = figure.subplots(1, 3)
    _reliability(trained, results["as_trained"], title="As trained")
    _reliability(scaled, results["scaled"], title=f"At temperature {formats.temperature(results)}")
    trained.set_ylabel("Accuracy, %", **style.LABEL)
    draw_rejection(rejection, results["rejection"], colour=style.BLUE)
    return figure


def draw_rejection(
    axes: Axes,
    points: Sequence[Mapping[str, float]],
    *,
    colour: str,
    label: str | None = None,
) -> None:
    """A rejection curve, as of evaluation/calibration.py, with title and axes."""
    rejected = [100 * point["rejected"] for point in points]
    accuracy = [100 * point["accuracy"] for point in points]
    axes.plot(
        rejected,
        accuracy,
        "o-",
        color=colour,
        linewidth=style.CURVE_WIDTH,
        markersize=4,
        label=label,
        clip_on=False,
    )
    style.end_at_percent(axes)
    axes.set_title("Accuracy on what is left, %", **style.TITLE)
    axes.set_xlabel("Most uncertain images left out, %", **style.LABEL)
    style.tidy(axes)


def _reliability(axes: Axes, figures: Figures, *, title: str) -> None:
    """Accuracy against confidence by bins, deeper blue for more examples.

    Red is by how much the confidence is above the accuracy, orange by how much it is below.
    """
    bins = figures["reliability"]
    most = max(row["examples"] for row in bins)
    for row in bins:
        left = row["bin"] * BIN_WIDTH
        accuracy = 100 * row["accuracy"]
        confidence = 100 * row["confidence"]
        low = min(accuracy, confidence)
        high = max(accuracy, confidence)
        depth = 0.25 + 0.75 * (row["examples"] / most) ** 0.5
        bar = {"width": BAR_WIDTH, "align": "edge", "linewidth": 0}
        axes.bar(
            left,
            low,
            color=style.BLUE,
            alpha=depth,
            **bar,
        )
        colour = style.RED if confidence > accuracy else style.ORANGE
        axes.bar(
            left,
            high - low,
            bottom=low,
            color=colour,
            alpha=0.35,
            **bar,
        )
    axes.plot([0, 100], [0, 100], color=style.GREY, **style.DASHED)
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100)
    axes.set_xlabel("Confidence, %", **style.LABEL)
    style.tidy(axes)
    axes.set_title(title, **style.TITLE)
    ece = f"ECE {formats.percent(figures['ece'])}"
    axes.text(
        0.03,
        0.93,
        ece,
        transform=axes.transAxes,
        **style.LABEL,
    )
