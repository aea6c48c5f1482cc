"""Figures that show several systems side by side."""

import re
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, Formatter, LogLocator, MaxNLocator, NullFormatter

from imgcls_jax.reporting.compare_rows import Group, Row
from imgcls_jax.reporting.plots import curves as run_curves
from imgcls_jax.reporting.plots import fonts, style
from imgcls_jax.run.folder import RunFolder
from imgcls_jax.training.metrics import METRICS

SHORTEST_TIME = 1e-3  # seconds, so that a logarithmic axis can show it
INTERVAL_WIDTH = 2.2
LABEL_WIDTH = 30  # characters of a line in a legend
OPTION = re.compile(r",(?=[A-Za-z_]\w*=)")  # the comma in front of an option in a row's label
# Of a curve that no other hides, of a second at the same place, and so on.
DASHES = ("-", (0, (4, 3)), (0, (1.5, 2.5)), (0, (6, 2, 1, 2)))
HIDDEN = 0.01  # share of an axis: curves and points no further apart hide each other


def accuracies(rows: Sequence[Row]) -> Figure:
    """Test accuracy of each row with its 95 % interval; reported accuracies are hollow markers."""
    figure = style.chart(7.5, 1.15 + 0.42 * len(rows))
    axes = figure.subplots()
    for y, row in enumerate(rows):
        if row.accuracy_errors is not None:
            _interval(axes, [row.accuracy_low, row.accuracy_high], y)
    is_single = [row.accuracy_errors is None for row in rows]
    _means(axes, rows, np.invert(is_single), label="mean, 95 % interval")
    _means(axes, rows, is_single, label="one seed: no interval", markerfacecolor="white")
    _reported(axes, rows)

    labels = differing_labels([row.label for row in rows])
    _row_axis(axes, [fonts.wrap(label, 2 * LABEL_WIDTH) for label in labels])
    axes.margins(x=0.08)
    style.end_at_percent(axes, "x")
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.ticklabel_format(axis="x", useOffset=False)
    axes.set_xlabel("Test accuracy, %", **style.LABEL)
    figure.legend(loc="outside upper right", ncols=3, **style.LEGEND)
    return figure


def differing_labels(labels: Sequence[str]) -> list[str]:
    """What differs between the labels of rows: "learning_rate=0.01", not "cnn,learning_rate=0.01".

    Labels of which nothing would be left, or that would be alike, stay whole.
    """
    parts = [OPTION.split(label) for label in labels]
    shared = set(parts[0]).intersection(*parts)
    shortened = []
    for label_parts in parts:
        shortened.append(", ".join(part for part in label_parts if part not in shared))
    if "" in shortened or len(set(shortened)) < len(labels):
        return list(labels)
    return shortened


def _legend_labels(labels: Sequence[str], seeds: Sequence[int]) -> list[str]:
    """The labels as a legend shows them: whole, and with a note on a single seed."""
    shown = []
    for label, count in zip(differing_labels(labels), seeds, strict=True):
        if count == 1:
            label = f"{label} (one seed)"
        shown.append(fonts.wrap(label, LABEL_WIDTH))
    return shown


def _means(
    axes: Axes,
    rows: Sequence[Row],
    is_drawn: Sequence[bool],
    *,
    label: str,
    **marker: Any,
) -> None:
    """The accuracies of the rows that are drawn."""
    places = np.flatnonzero(is_drawn)
    if not len(places):
        return
    axes.plot(
        [rows[y].accuracy for y in places],
        places,
        "o",
        color=style.BLUE,
        markersize=7,
        label=label,
        clip_on=False,
        **marker,
    )


def _interval(axes: Axes, ends: Sequence[float | None], y: float) -> None:
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
        clip_on=False,
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
        clip_on=False,
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
            xerr=row.accuracy_errors,
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
    """Test accuracy with its 95 % interval against the parameters and against training time.

    Rows whose training time is not known are at the left alone; if none is, there is no right.
    """
    labels = _legend_labels([row.label for row in rows], [row.seeds for row in rows])
    parameters = [row.parameters for row in rows]
    seconds = [_seconds(row) for row in rows]
    times_known = bool(np.isfinite(seconds).any())
    figure, (left, *right) = _figure(labels, columns=1 + times_known)
    _cost(
        left,
        rows,
        parameters,
        labels=labels,
        title="Parameters",
        form=EngFormatter(sep=""),
    )
    for axes in right:
        _cost(axes, rows, seconds, labels=labels, title="Training time, s", form="{x:g}")
    style.end_at_percent(left)
    left.set_ylabel("Test accuracy, %", **style.LABEL)
    _legend(figure, left)
    return figure


def _seconds(row: Row) -> float:
    """The training time, as a logarithmic axis can show it; NaN if it is not known."""
    if row.train_seconds is None:
        return np.nan
    return max(row.train_seconds, SHORTEST_TIME)


def _cost(
    axes: Axes,
    rows: Sequence[Row],
    costs: Sequence[float],
    *,
    labels: Sequence[str],
    title: str,
    form: str | Formatter,
) -> None:
    """Each row's accuracy at its cost; rings are around a point that is at the same place.

    The axis is logarithmic if the highest cost is at least twice the lowest.
    """
    colours = _colours(len(rows))
    places = np.stack([np.log(costs), [row.accuracy for row in rows]], axis=1)
    for number, hidden in enumerate(_hidden(places[:, None])):
        row = rows[number]
        axes.errorbar(
            costs[number],
            row.accuracy,
            yerr=row.accuracy_errors,
            fmt="o",
            color=colours[number],
            elinewidth=1.6,
            label=labels[number],
            clip_on=False,
            **_marker(hidden, colours[number]),
        )
    ratio = np.nanmax(costs) / np.nanmin(costs)
    if ratio < 2:
        axes.xaxis.set_major_locator(MaxNLocator(4))
    else:
        ticks = (1, 2, 5) if ratio < 100 else (1,)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=ticks))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(form)
    axes.margins(x=0.12)
    axes.set_xlabel(title, **style.LABEL)


def curves(groups: Sequence[Group]) -> Figure:
    """`curve_metric` of each system against the epoch: mean and range over its seeds."""
    metric = curve_metric(groups)
    seeds = [len(group.runs) for group in groups]
    labels = _legend_labels([group.label for group in groups], seeds)
    figure, (axes,) = _figure(labels, columns=1)
    colours = _colours(len(groups))
    values = [_percentages(group.runs, metric) for group in groups]
    means = _padded([np.nanmean(percentages, 0) for percentages in values])
    for number, hidden in enumerate(_hidden(means[:, :, None])):
        longest = values[number].shape[1]
        epochs = np.arange(1, longest + 1)
        axes.plot(
            epochs,
            means[number, :longest],
            color=colours[number],
            linewidth=style.CURVE_WIDTH,
            linestyle=DASHES[min(hidden, len(DASHES) - 1)],
            marker=style.marker_of(longest),
            label=labels[number],
            **_marker(hidden, colours[number]),
        )
        lowest = np.nanmin(values[number], 0)
        highest = np.nanmax(values[number], 0)
        axes.fill_between(
            epochs,
            lowest,
            highest,
            color=colours[number],
            alpha=0.18,
            linewidth=0,
        )
    style.end_at_percent(axes)
    all_values = [curve for percentages in values for curve in percentages]
    run_curves.leave_out_beginning(axes, _padded(all_values))
    run_curves.epoch_axis(axes)
    title = f"Validation {METRICS[metric].title}, %: mean and range over seeds"
    axes.set_ylabel(title, **style.LABEL)
    _legend(figure, axes)
    return figure


def curve_metric(groups: Sequence[Group]) -> str:
    """Returns the metric that the curves show: what all runs monitor if it is a share, or accuracy."""
    monitored = {run.config.train.monitor for group in groups for run in group.runs}
    if len(monitored) > 1:
        return "accuracy"
    (metric,) = monitored
    if not METRICS[metric].is_share:
        return "accuracy"
    return metric


def _hidden(curves: np.ndarray) -> list[int]:
    """How many earlier curves are where each of the curves is, float [curves, points, axes].

    At the same place are curves of which at least half of the points are. Points may be NaN.
    """
    points = curves.reshape(-1, curves.shape[-1])
    span = np.nanmax(points, axis=0) - np.nanmin(points, axis=0)
    counts = []
    for number, curve in enumerate(curves):
        distances = np.abs(curves[:number] - curve)
        is_near = (distances <= HIDDEN * span).all(axis=-1)
        num_points = np.isfinite(distances).all(axis=-1).sum(axis=-1)
        counts.append(int((is_near.sum(axis=-1) >= np.maximum(num_points / 2, 1)).sum()))
    return counts


def _marker(hidden: int, colour: np.ndarray) -> dict[str, Any]:
    """A marker at the place of `hidden` earlier ones: a ring around them."""
    if not hidden:
        return {"markersize": 7, "markerfacecolor": colour}
    return {"markersize": 7 + 5 * hidden, "markerfacecolor": "none"}


def _percentages(runs: Sequence[RunFolder], metric: str) -> np.ndarray:
    """A validation metric [runs, epochs]; NaN after the end of runs that stopped early."""
    histories = []
    for run in runs:
        histories.append([100 * line[f"validation_{metric}"] for line in run.history])
    return _padded(histories)


def _padded(curves: Sequence[Sequence[float]]) -> np.ndarray:
    """The curves as an array [curves, points], with NaN after the end of the shorter ones."""
    longest = max(map(len, curves))
    values = np.full((len(curves), longest), np.nan)
    for row, curve in zip(values, curves, strict=True):
        row[: len(curve)] = curve
    return values


def _figure(labels: Sequence[str], *, columns: int) -> tuple[Figure, Sequence[Axes]]:
    """A figure high enough for a legend of these labels, and its axes side by side."""
    lines = sum(label.count("\n") + 1 for label in labels)
    figure = style.chart(9, max(4, 0.9 + 0.22 * lines))
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
