"""The curve of a learning rate range test."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from imgcls_jax.reporting.plots import style
from imgcls_jax.training.range_test import RangeTest

SPACE = 0.25  # of the range of the losses before the breakdown, above and below them


def draw(test: RangeTest) -> Figure:
    """Draws the loss against the rate, with the suggested rate and that of the breakdown."""
    figure = style.chart(7.2, 3.8)
    axes = figure.subplots()
    rates, losses = test.smoothed
    axes.plot(test.rates, test.losses, ".", color=style.GREY, markersize=3, alpha=0.5)
    axes.plot(rates, losses, color=style.BLUE, linewidth=style.CURVE_WIDTH)
    axes.set_xscale("log")
    style.tidy(axes)
    axes.set_title("Training loss while the learning rate rises", **style.TITLE)
    axes.set_xlabel("Learning rate", **style.LABEL)

    before = losses[rates <= test.breakdown]
    space = SPACE * np.ptp(before)
    axes.set_ylim(before.min() - space, before.max() + space)
    suggested = f"suggested: {test.suggestion:.2g} "
    _mark(axes, test.suggestion, suggested, color=style.ORANGE, ha="right")
    broken = f" breaks down: {test.breakdown:.2g}"
    _mark(axes, test.breakdown, broken, color=style.RED, ha="left")
    return figure


def _mark(axes: Axes, rate: float, text: str, *, color: str, ha: str) -> None:
    """Marks a rate by a line, with a text beside its foot."""
    axes.axvline(rate, color=color, **style.DASHED)
    low, high = axes.get_ylim()
    axes.text(rate, low + 0.03 * (high - low), text, color=color, ha=ha, fontsize=9)
