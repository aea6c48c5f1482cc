"""Figures that lay several systems beside each other. Importing this imports matplotlib, as plots.py does."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter

from imgcls_jax.reporting import plots
from imgcls_jax.reporting.compare import Groups, Row


def accuracies(rows: Sequence[Row]) -> Figure:
    """Test accuracy of each row with its 95 % interval, and the reported accuracy as a hollow marker."""
    figure = Figure(figsize=(7.5, 1.15 + 0.42 * len(rows)), layout="constrained", facecolor="white")
    axes = figure.subplots()
    for y, row in enumerate(rows):
        if row.accuracy_margin is not None:
            low, high = row.accuracy - row.accuracy_margin, row.accuracy + row.accuracy_margin
            axes.plot(
                [low, high],
                [y, y],
                color=plots.BLUE,
                linewidth=2.2,
                alpha=0.55,
                solid_capstyle="butt",
            )
            axes.plot([low, high], [y, y], "|", color=plots.BLUE, markersize=9, markeredgewidth=1.6)
    means = [row.accuracy for row in rows]
    axes.plot(
        means, range(len(rows)), "o", color=plots.BLUE, markersize=7, label="mean, 95 % interval"
    )
    reported = [
        (row.reported["accuracy"], y) for y, row in enumerate(rows) if "accuracy" in row.reported
    ]
    if reported:
        hollow = {
            "markerfacecolor": "none",
            "markeredgecolor": plots.ORANGE,
            "markeredgewidth": 1.8,
        }
        axes.plot(
            *zip(*reported, strict=True),
            "D",
            markersize=7,
            label="reported",
            linestyle="none",
            **hollow,
        )

    axes.set_yticks(range(len(rows)), [row.label.replace("$", r"\$") for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.margins(x=0.08)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.ticklabel_format(axis="x", useOffset=False)
    axes.set_xlabel("Test accuracy, %", fontsize=9.5, color=plots.INK)
    plots.plain(axes)
    axes.grid(axis="x", color=plots.RULE, linewidth=0.9)
    figure.legend(
        loc="outside upper right", ncols=2, frameon=False, fontsize=9, labelcolor=plots.INK
    )
    return figure


def differences(rows: Sequence[Row]) -> Figure:
    """How far each row's test accuracy is from the reported one, in points, with its 95 % interval; both as text."""
    figure = Figure(figsize=(7.5, 1 + 0.36 * len(rows)), layout="constrained", facecolor="white")
    axes = figure.subplots()
    beside = axes.get_yaxis_transform()
    for y, row in enumerate(rows):
        options = {"color": plots.BLUE, "markersize": 7, "elinewidth": 2.2, "capsize": 4}
        axes.errorbar(
            row.accuracy - row.reported["accuracy"], y, xerr=row.accuracy_margin, fmt="o", **options
        )
        words = f"{row.accuracy:.2f}  ({row.reported['accuracy']:.2f})"
        axes.text(1.02, y, words, transform=beside, va="center", fontsize=9, color=plots.INK)
    axes.axvline(0, color=plots.ORANGE, linewidth=1.6, zorder=1)
    axes.set_yticks(range(len(rows)), [plots.short(row.label, 40) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("Test accuracy less the reported one, points", fontsize=9.5, color=plots.INK)
    axes.set_title("ours (reported), %", loc="right", fontsize=9, color=plots.GREY)
    plots.plain(axes)
    axes.grid(axis="x", color=plots.RULE, linewidth=0.9)
    return figure


def costs(rows: Sequence[Row]) -> Figure:
    """Test accuracy with its 95 % interval against the parameters and against the seconds of training."""
    figure, (left, right) = _figure(len(rows), columns=2)
    _price(left, rows, [row.parameters for row in rows], "Parameters", EngFormatter(sep=""))
    _price(right, rows, [max(row.train_seconds, 1e-3) for row in rows], "Training time, s", "{x:g}")
    left.set_ylabel("Test accuracy, %", fontsize=9.5, color=plots.INK)
    return _with_legend(figure, left)


def _price(
    axes, rows: Sequence[Row], prices: Sequence[float], words: str, form: str | EngFormatter
) -> None:
    """Each row's accuracy at its price; the axis is logarithmic where the highest price is twice the lowest or more."""
    for row, price, colour in zip(rows, prices, _colours(len(rows)), strict=True):
        options = {
            "color": colour,
            "markersize": 7,
            "elinewidth": 1.6,
            "label": plots.short(row.label),
        }
        axes.errorbar(price, row.accuracy, yerr=row.accuracy_margin, fmt="o", **options)
    times = max(prices) / min(prices)
    if times < 2:
        axes.xaxis.set_major_locator(MaxNLocator(4))
    else:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if times < 100 else (1,)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(form)
    axes.margins(x=0.12)
    axes.set_xlabel(words, fontsize=9.5, color=plots.INK)


def curves(groups: Groups) -> Figure:
    """Validation accuracy of each system against the epoch: the mean over its seeds, and from the least to the most."""
    figure, (axes,) = _figure(len(groups), columns=1)
    for (label, _, runs), colour in zip(groups, _colours(len(groups)), strict=True):
        histories = [[100 * line["validation_accuracy"] for line in run.history] for run in runs]
        longest = max(map(len, histories))
        values = np.full((len(runs), longest), np.nan)  # runs that stopped early end before
        for line, history in zip(values, histories, strict=True):
            line[: len(history)] = history
        epochs = np.arange(1, longest + 1)
        marker = "o" if longest < 2 else None  # a line of one point would not show
        axes.plot(
            epochs,
            np.nanmean(values, 0),
            color=colour,
            linewidth=1.8,
            marker=marker,
            label=plots.short(label),
        )
        axes.fill_between(
            epochs,
            np.nanmin(values, 0),
            np.nanmax(values, 0),
            color=colour,
            alpha=0.18,
            linewidth=0,
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("Epoch", fontsize=9.5, color=plots.INK)
    axes.set_ylabel("Validation accuracy, %", fontsize=9.5, color=plots.INK)
    return _with_legend(figure, axes)


def _figure(systems: int, *, columns: int):
    figure = Figure(
        figsize=(9, max(4, 0.9 + 0.22 * systems)), layout="constrained", facecolor="white"
    )
    all_axes = figure.subplots(1, columns, sharey=True, squeeze=False)[0]
    for axes in all_axes:
        plots.plain(axes)
        axes.grid(color=plots.RULE, linewidth=0.9)
    return figure, all_axes


def _with_legend(figure: Figure, axes) -> Figure:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside right upper", frameon=False, fontsize=9, labelcolor=plots.INK
    )
    return figure


def _colours(count: int) -> np.ndarray:
    if count <= 10:
        return matplotlib.colormaps["tab10"](np.arange(count))
    return matplotlib.colormaps["turbo"](np.linspace(0.05, 0.95, count))
