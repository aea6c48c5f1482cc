"""Figures that show several systems side by side."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, Formatter, LogLocator, MaxNLocator, NullFormatter

from imgcls_jax.reporting.compare_rows import Group, Row
from imgcls_jax.reporting.plots import curves as run_curves
from imgcls_jax.reporting.plots import fonts, style
from imgcls_jax.run.folder import RunFolder

SHORTEST_TIME = 1e-3  # seconds, so that a logarithmic axis can show it
INTERVAL_WIDTH = 2.2


def accuracies(rows: Sequence[Row]) -> Figure:
    """Test accuracy of each row with its 95 % interval; reported accuracies are hollow markers."""
    figure = style.chart(7.5, 1.15 + 0.42 * len(rows))
    axes = figure.subplots()
    for y, row in enumerate(rows):
        if row.accuracy_margin is not None:
            _interval(axes, row.accuracy, y, margin=row.accuracy_margin)
    means = [row.accuracy for row in rows]
    places = range(len(rows))
    means_label = "mean, 95 % interval"
    axes.plot(
        means,
        places,
        "o",
        color=style.BLUE,
        markersize=7,
        label=means_label,
    )
    _reported(axes, rows)

    labels = [row.label.replace("$", r"\$") for row in rows]
    _row_axis(axes, labels)
    axes.margins(x=0.08)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.ticklabel_format(axis="x", useOffset=False)
    axes.set_xlabel("Test accuracy, %", **style.LABEL)
    figure.legend(loc="outside upper right", ncols=2, **style.LEGEND)
    return figure


def _interval(
    axes: Axes,
    mean: float,
    y: float,
    *,
    margin: float,
) -> None:
    ends = [mean - margin, mean + margin]
    axes.plot(
        ends,
        [y, y],
        color=style.BLUE,
        linewidth=INTERVAL_WIDTH,
        alpha=0.55,
        solid_capstyle="butt",
    )
    axes.plot(
        ends,
        [y, y],
        "|",
        color=style.BLUE,
        markersize=9,
        markeredgewidth=1.6,
    )


def _reported(axes: Axes, rows: Sequence[Row]) -> None:
    places = [y for y, row in enumerate(rows) if "accuracy" in row.reported]
    if not places:
        return
    axes.plot(
        [rows[y].reported["accuracy"] for y in places],
        places,
        "D",
        markersize=7,
        label="reported",
        linestyle="none",
        markerfacecolor="none",
        markeredgecolor=style.ORANGE,
        markeredgewidth=1.8,
    )


def _row_axis(axes: Axes, labels: Sequence[str]) -> None:
    """The look of a chart that has a line for each row, the first at the top."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    style.tidy(axes)
    axes.grid(axis="x", **style.GRID)


def differences(rows: Sequence[Row]) -> Figure:
    """How far each row's test accuracy is from the reported one, in points, with its 95 % interval.

    Both accuracies are at the right as text.
    """
    figure = style.chart(7.5, 1 + 0.36 * len(rows))
    axes = figure.subplots()
    beside = axes.get_yaxis_transform()
    for y, row in enumerate(rows):
        reported = row.reported["accuracy"]
        axes.errorbar(
            row.accuracy - reported,
            y,
            xerr=row.accuracy_margin,
            fmt="o",
            color=style.BLUE,
            markersize=7,
            elinewidth=INTERVAL_WIDTH,
            capsize=4,
        )
        text = f"{row.accuracy:.2f}  ({reported:.2f})"
        axes.text(
            1.02,
            y,
            text,
            transform=beside,
            va="center",
            **style.NUMBER,
        )
    axes.axvline(0, color=style.ORANGE, linewidth=1.6, zorder=1)
    _row_axis(axes, [fonts.shorten(row.label, 40) for row in rows])
    axes.set_xlabel("Test accuracy less the reported one, points", **style.LABEL)
    axes.set_title("ours (reported), %", loc="right", fontsize=9, color=style.GREY)
    return figure


def costs(rows: Sequence[Row]) -> Figure:
    """Test accuracy with its 95 % interval against the parameters and against training time."""
    figure, (left, right) = _figure(len(rows), columns=2)
    parameters = [row.parameters for row in rows]
    seconds = [max(row.train_seconds, SHORTEST_TIME) for row in rows]
    _cost(
        left,
        rows,
        parameters,
        label="Parameters",
        form=EngFormatter(sep=""),
    )
    _cost(right, rows, seconds, label="Training time, s", form="{x:g}")
    left.set_ylabel("Test accuracy, %", **style.LABEL)
    _legend(figure, left)
    return figure


def _cost(
    axes: Axes,
    rows: Sequence[Row],
    costs: Sequence[float],
    *,
    label: str,
    form: str | Formatter,
) -> None:
    """Each row's accuracy at its cost.

    The axis is logarithmic if the highest cost is at least twice the lowest.
    """
    colours = _colours(len(rows))
    for row, cost, colour in zip(rows, costs, colours, strict=True):
        axes.errorbar(
            cost,
            row.accuracy,
            yerr=row.accuracy_margin,
            fmt="o",
            color=colour,
            markersize=7,
            elinewidth=1.6,
            label=fonts.shorten(row.label),
        )
    ratio = max(costs) / min(costs)
    if ratio < 2:
        axes.xaxis.set_major_locator(MaxNLocator(4))
    else:
        ticks = (1, 2, 5) if ratio < 100 else (1,)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=ticks))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(form)
    axes.margins(x=0.12)
    axes.set_xlabel(label, **style.LABEL)


def curves(groups: Sequence[Group]) -> Figure:
    """Validation accuracy of each system against the epoch: mean and range over its seeds."""
    figure, (axes,) = _figure(len(groups), columns=1)
    colours = _colours(len(groups))
    for (label, _, runs), colour in zip(groups, colours, strict=True):
        values = _validation_accuracies(runs)
        longest = values.shape[1]
        epochs = np.arange(1, longest + 1)
        axes.plot(
            epochs,
            np.nanmean(values, 0),
            color=colour,
            linewidth=style.CURVE_WIDTH,
            marker=style.marker_of(longest),
            label=fonts.shorten(label),
        )
        lowest = np.nanmin(values, 0)
        highest = np.nanmax(values, 0)
        axes.fill_between(
            epochs,
            lowest,
            highest,
            color=colour,
            alpha=0.18,
            linewidth=0,
        )
    run_curves.epoch_axis(axes)
    axes.set_ylabel("Validation accuracy, %", **style.LABEL)
    _legend(figure, axes)
    return figure


def _validation_accuracies(runs: Sequence[RunFolder]) -> np.ndarray:
    """Percentages [runs, epochs]; NaN after the end of runs that stopped early."""
    histories = []
    for run in runs:
        histories.append([100 * line["validation_accuracy"] for line in run.history])
    longest = max(map(len, histories))
    values = np.full((len(histories), longest), np.nan)
    for row, history in zip(values, histories, strict=True):
        row[: len(history)] = history
    return values


def _figure(systems: int, *, columns: int) -> tuple[Figure, Sequence[Axes]]:
    """A figure high enough for a legend of that many systems, and its axes side by side."""
    figure = style.chart(9, max(4, 0.9 + 0.22 * systems))
    all_axes = figure.subplots(1, columns, sharey=True, squeeze=False)[0]
    for axes in all_axes:
        style.tidy(axes)
        axes.grid(**style.GRID)
    return figure, all_axes


def _legend(figure: Figure, axes: Axes) -> None:
    """The legend of the axes, at the right of the figure."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", **style.LEGEND)


def _colours(count: int) -> np.ndarray:
    """RGBA [count, 4], as different as can be."""
    if count <= 10:
        return matplotlib.colormaps["tab10"](np.arange(count))
    return matplotlib.colormaps["turbo"](np.linspace(0.05, 0.95, count))
