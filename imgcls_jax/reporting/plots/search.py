"""What mattered in a search: the validation metric of its trials against each option."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from imgcls_jax.config.ranges import Integers, LogUniform, Range, Uniform, short_names
from imgcls_jax.reporting.plots import fonts, style
from imgcls_jax.reporting.search import Trial, metric_title
from imgcls_jax.training.metrics import Metric

COLUMNS = 3
JITTER = 0.12  # of a category's width, so that points at one place do not hide each other
LONGEST_VALUE = 14  # characters of a category below its axis


def draw(
    trials: Sequence[Trial],
    ranges: Mapping[str, Range],
    importances: Mapping[str, float],
    metric: Metric,
    measure: str,
) -> Figure:
    """A small chart an option, the one that mattered most first; the best trial is orange.

    measure: what the importances are.
    """
    paths = sorted(importances, key=lambda path: -importances[path])
    names = short_names(list(importances))
    columns = min(COLUMNS, len(paths))
    rows = -(-len(paths) // columns)
    figure = style.chart(max(3.2 * columns, 4.5), 0.4 + 2.7 * rows)
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    scores = np.array([trial.value for trial in trials])
    if metric.is_share:
        scores = 100 * scores
    for axes, path in zip(grid.flat, paths, strict=False):
        values = [trial.options[path] for trial in trials]
        _panel(axes, values, ranges[path], scores, best=_best(scores, metric))
        axes.set_title(f"{fonts.shorten(names[path])}: {importances[path]:.2f}", **style.TITLE)
        style.tidy(axes)
    for axes in grid.flat[len(paths) :]:
        axes.set_visible(False)
    figure.supylabel(f"Validation {metric_title(metric)}", **style.LABEL)
    figure.supxlabel(f"Option and its {measure}; orange: the best trial", **style.LABEL)
    return figure


def _best(scores: np.ndarray, metric: Metric) -> int:
    """Returns the index of the best trial."""
    if metric.higher_is_better:
        return int(scores.argmax())
    return int(scores.argmin())


def _panel(
    axes: Axes, values: Sequence[Any], choices: Range, scores: np.ndarray, *, best: int
) -> None:
    """The trials as points, at their numbers or, for other values, above their names."""
    if isinstance(choices, Uniform | Integers):
        places = np.array(values, float)
        _number_axis(axes, choices)
    else:
        places = _category_axis(axes, values, choices)
    axes.scatter(places, scores, s=26, color=style.BLUE, alpha=0.75, linewidths=0)
    axes.scatter(places[best], scores[best], s=60, color=style.ORANGE, zorder=3)


def _number_axis(axes: Axes, choices: Range) -> None:
    if isinstance(choices, LogUniform):
        axes.set_xscale("log")
        axes.minorticks_off()
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4))


def _category_axis(axes: Axes, values: Sequence[Any], choices: Range) -> np.ndarray:
    """Labels the axis with the values of a choice; returns the places of the trials' values."""
    texts = [repr(value) for value in choices.extremes]
    labels = [fonts.shorten(str(value), LONGEST_VALUE) for value in choices.extremes]
    axes.set_xticks(range(len(texts)), labels)
    axes.set_xlim(-0.5, len(texts) - 0.5)
    places = np.array([texts.index(repr(value)) for value in values], float)
    shifts = np.random.default_rng(0).uniform(-JITTER, JITTER, len(places))
    return places + shifts
