"""The curves of a run's training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from imgcls_jax.reporting.plots import style

SPLIT_COLOURS = {"train": style.BLUE, "validation": style.ORANGE}

LONE = 5.0  # ranges of the later epochs that a beginning is away from them if it is left out
FEWEST_LATER = 3  # epochs, to tell a range by
MOST_BEGINNING = 0.2  # of the epochs

History = Sequence[Mapping[str, Any]]  # lines of metrics.jsonl


def draw(
    history: History,
    best_epoch: int | None = None,
    *,
    narrow: bool = False,
) -> Figure:
    """Loss, accuracy and learning rate against the epoch.

    best_epoch: the epoch whose weights were kept, which is marked. narrow: for a phone.
    """
    width = style.NARROW if narrow else 7.2
    figure = style.chart(width, 6)
    figure.get_layout_engine().set(h_pad=0.06, w_pad=0.06)
    loss, accuracy, rate = figure.subplots(3, sharex=True, height_ratios=(5, 5, 2))
    epochs = [line["epoch"] for line in history]
    marked = best_epoch if best_epoch in epochs else None

    draw_metric(loss, history, "loss")
    draw_metric(accuracy, history, "accuracy", scale=100)
    for axes in (loss, accuracy):
        if marked is not None:
            _mark_validation(axes, marked)
    _learning_rate(rate, history)
    titles = {loss: "Loss", accuracy: "Accuracy, %", rate: "Learning rate"}
    for axes, title in titles.items():
        style.tidy(axes)
        axes.set_title(title, **style.TITLE)
        if axes is not rate:
            axes.yaxis.set_major_locator(MaxNLocator(5))
        if marked is not None:
            axes.axvline(marked, color=style.ORANGE, zorder=1, **style.DASHED)
    epoch_axis(rate)
    if len(epochs) == 1:
        widen(rate, epochs[0])
    _legend(loss, marked, narrow=narrow)
    return figure


def draw_metric(
    axes: Axes,
    history: History,
    key: str,
    *,
    scale: float = 1,
) -> None:
    """The metric of the training and of the validation set against the epoch.

    scale: 100 for metrics that are drawn in percent.
    """
    epochs = [line["epoch"] for line in history]
    values = {}
    for split, colour in SPLIT_COLOURS.items():
        values[split] = [scale * line[f"{split}_{key}"] for line in history]
        axes.plot(
            epochs,
            values[split],
            color=colour,
            linewidth=style.CURVE_WIDTH,
            marker=style.marker_of(len(epochs)),
            label=split,
        )

    if scale == 100:
        style.end_at_percent(axes)
    leave_out_beginning(axes, np.array(list(values.values()), float))


def leave_out_beginning(axes: Axes, values: np.ndarray) -> None:
    """Keeps first epochs that are far from all others from squashing the curves [curves, epochs].

    A loss may begin at 24 and then go from 2 to 1: the axis shows the later epochs, and a note says
    where the curve began. Values may be NaN.
    """
    epochs = values.shape[1]
    most = min(max(int(MOST_BEGINNING * epochs), 1), epochs - FEWEST_LATER)
    for count in range(1, most + 1):
        beginning = _finite(values[:, :count])
        later = _finite(values[:, count:])
        if not (beginning.size and later.size):
            return
        low, high = later.min(), later.max()
        span = high - low
        is_above = beginning.max() > high + LONE * span
        is_below = beginning.min() < low - LONE * span
        if span > 0 and (is_above or is_below):
            _limit(axes, beginning, later, count=count, is_above=is_above)
            return


def _finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


def _limit(
    axes: Axes,
    beginning: np.ndarray,
    later: np.ndarray,
    *,
    count: int,
    is_above: bool,
) -> None:
    """Ends the y axis near the later values, with a note on the others."""
    space = 0.05 * (later.max() - later.min())
    low, high = axes.get_ylim()
    when = "epoch 1"
    if count > 1:
        when = f"epochs 1 to {count}"
    if is_above:
        axes.set_ylim(max(low, later.min() - space), min(high, later.max() + 4 * space))
        note = f"\N{UPWARDS ARROW} {when}: up to {beginning.max():.3g}"
        _note(axes, note, y=0.97, va="top")
    else:
        axes.set_ylim(later.min() - 4 * space, min(high, later.max() + space))
        note = f"\N{DOWNWARDS ARROW} {when}: from {beginning.min():.3g}"
        _note(axes, note, y=0.03, va="bottom")


def _note(
    axes: Axes,
    note: str,
    *,
    y: float,
    va: str,
) -> None:
    """A note at the left, in front of the curves."""
    background = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    axes.text(
        0.01,
        y,
        note,
        transform=axes.transAxes,
        va=va,
        bbox=background,
        **style.NUMBER,
    )


def epoch_axis(axes: Axes) -> None:
    """Makes the x axis one of whole epochs."""
    axes.set_xlabel("Epoch", **style.LABEL)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def widen(axes: Axes, epoch: int) -> None:
    """Gives an x axis of a single epoch some width."""
    axes.set_xlim(epoch - 0.5, epoch + 0.5)


def _mark_validation(axes: Axes, epoch: int) -> None:
    """A dot on the validation curve, which is the second line of the axes."""
    curve = axes.lines[1]
    index = list(curve.get_xdata()).index(epoch)
    axes.plot(
        epoch,
        curve.get_ydata()[index],
        "o",
        color=curve.get_color(),
        markeredgecolor="white",
        markersize=8,
        clip_on=False,
    )


def _learning_rate(axes: Axes, history: History) -> None:
    epochs = [line["epoch"] for line in history]
    rates = [line["learning_rate"] for line in history]
    marker = style.marker_of(len(epochs))
    axes.plot(
        epochs,
        rates,
        color=style.GREY,
        linewidth=1.6,
        marker=marker,
    )
    highest = max(rates, default=0) or 1
    axes.set_ylim(0, 1.08 * highest)
    axes.set_yticks([0, highest], ["0", f"{highest:.3g}"])
    if len(epochs) > 1:
        axes.set_xlim(epochs[0], epochs[-1])


def _legend(axes: Axes, best_epoch: int | None, *, narrow: bool) -> None:
    """A legend above the axes, at the right; where that is too narrow, in them."""
    handles, labels = axes.get_legend_handles_labels()
    if best_epoch is not None:
        handles.append(axes.lines[2])
        labels.append(f"best, epoch {best_epoch}")
    place = {"loc": "lower right", "bbox_to_anchor": (1, 1), "ncols": 3}
    if narrow:
        place = {"loc": "upper right", "bbox_to_anchor": (1, 0.86)}  # below a note
    axes.legend(
        handles,
        labels,
        borderaxespad=0.2,
        **place,
        **style.LEGEND,
    )
