"""The table of a search: its trials by their validation metric, and which options mattered."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imgcls_jax.config.ranges import Range, short_names
from imgcls_jax.files import write_atomically
from imgcls_jax.reporting import formats
from imgcls_jax.reporting.plain_tables import csv_table, escape, markdown_table
from imgcls_jax.run.folder import RunFolder
from imgcls_jax.training.metrics import METRICS, Metric

FEWEST_TRIALS = 4  # with which something can be said about options
MOST_SHOWN = 10  # trials of the table in the log


@dataclasses.dataclass(frozen=True)
class Trial:
    """A finished trial.

    number: from 0. options: by their paths. value: the validation metric of the kept epoch, the
    mean over its runs, which differ in their seed or fold.
    """

    number: int
    options: Mapping[str, Any]
    value: float
    runs: Sequence[RunFolder]


def write(
    trials: Sequence[Trial],
    ranges: Mapping[str, Range],
    folder: Path,
    *,
    title: str,
    monitor: str,
    importances: Mapping[str, float] | None,
    test_command: Callable[[Trial], str],
) -> str:
    """Writes table.md, table.csv and, of enough trials, table.png; returns what the log shows.

    monitor: the name of the metric. importances: how much each option mattered, by its path; None
    for rank correlations. test_command: returns the command that tests a trial's options.
    """
    from imgcls_jax.reporting.plots import search as plots
    from imgcls_jax.reporting.plots import style

    metric = METRICS[monitor]
    ranked = sorted(trials, key=lambda trial: trial.value, reverse=metric.higher_is_better)
    command = test_command(ranked[0])
    paragraphs = [f"# {escape(title)}", _table(ranked, metric).rstrip("\n"), _note(ranked, metric)]
    measure = "importance (fANOVA)"
    if importances is None:
        importances = rank_correlations(trials)
        measure = "rank correlation"
    if importances:
        style.save(plots.draw(trials, ranges, importances, metric, measure), folder / "table.png")
        paragraphs += [
            _importances(importances, measure).rstrip("\n"),
            f"![Validation {metric.title} against each option](table.png)",
        ]
    paragraphs.append(f"Test figures of the best options, with other seeds:\n\n    {command}")
    write_atomically(folder / "table.csv", _csv(ranked, monitor).encode())
    write_atomically(folder / "table.md", ("\n\n".join(paragraphs) + "\n").encode())
    shown = _table(ranked[:MOST_SHOWN], metric)
    best = ranked[0].runs[0].path
    return f"{shown}\nThe best trial is {best}. This tests its options with other seeds:\n  {command}\n"


def differ(trials: Sequence[Trial]) -> bool:
    """Returns whether the trials are enough, and different enough, to say which options mattered."""
    return len(trials) >= FEWEST_TRIALS and len({trial.value for trial in trials}) > 1


def rank_correlations(trials: Sequence[Trial]) -> dict[str, float]:
    """Returns how strongly the ranks of the metric go with each option, from 0 to 1.

    Of numbers it is the size of Spearman's rank correlation, which sees no optimum in the middle.
    Of other values it is the correlation ratio of the ranks: the root of the share of their
    variance that is between the values. Empty unless the trials `differ`.
    """
    from scipy import stats

    if not differ(trials):
        return {}
    ranks = stats.rankdata([trial.value for trial in trials])
    correlations = {}
    for path in trials[0].options:
        values = [trial.options[path] for trial in trials]
        if len(set(map(repr, values))) < 2:
            correlations[path] = 0.0
        elif all(map(is_number, values)):
            correlations[path] = abs(float(stats.spearmanr(values, ranks).statistic))
        else:
            correlations[path] = _correlation_ratio(values, ranks)
    return correlations


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _correlation_ratio(values: Sequence[Any], ranks: np.ndarray) -> float:
    texts = np.array([repr(value) for value in values])
    between = 0.0
    for text in np.unique(texts):
        group = ranks[texts == text]
        between += len(group) * (group.mean() - ranks.mean()) ** 2
    total = ((ranks - ranks.mean()) ** 2).sum()
    return float(np.sqrt(between / total))


def _table(trials: Sequence[Trial], metric: Metric) -> str:
    names = short_names(list(trials[0].options))
    head = ["Trial", *names.values(), f"Validation {metric_title(metric)}", "Epochs", "Training"]
    lines = []
    for trial in trials:
        tests = [run.test for run in trial.runs]
        epochs = [test["epochs"] for test in tests]
        seconds = sum(test["train_seconds"] for test in tests)
        lines.append(
            (
                str(trial.number),
                *(formats.text(trial.options[path]) for path in names),
                shown(trial.value, metric),
                f"{np.mean(epochs):.1f}".removesuffix(".0"),
                formats.duration(seconds),
            )
        )
    return markdown_table(head, lines, figures=range(len(head)))


def _csv(trials: Sequence[Trial], monitor: str) -> str:
    paths = list(trials[0].options)
    lines: list[Sequence[object]] = [["trial", *paths, f"validation_{monitor}"]]
    for trial in trials:
        values = []
        for path in paths:
            value = trial.options[path]
            if not is_number(value):
                value = str(value)
            values.append(value)
        lines.append([trial.number, *values, trial.value])
    return csv_table(lines)


def _importances(importances: Mapping[str, float], measure: str) -> str:
    names = short_names(list(importances))
    ranked = sorted(importances, key=lambda path: -importances[path])
    lines = [(names[path], f"{importances[path]:.2f}") for path in ranked]
    return markdown_table(("Option", f"{measure[0].upper()}{measure[1:]}"), lines, figures=(1,))


def _note(trials: Sequence[Trial], metric: Metric) -> str:
    """What the figures of the table are."""
    configs = [run.config for run in trials[0].runs]
    seeds = len({config.seed for config in configs})
    folds = len({config.data.fold for config in configs})
    counts = []
    if seeds > 1:
        counts.append(f"{seeds} seeds")
    if folds > 1:
        counts.append(f"{folds} folds")
    mean = ""
    if counts:
        mean = f", the mean over {' and '.join(counts)}"
    test = "The test set is not in this table, and has no part in the choice."
    if folds > 1:
        test = (
            "Figures of the test sets are not in this table; but each image of a fold's test set is "
            "a training or validation image of the other folds, so that it has had its part in the "
            "choice."
        )
    return (
        f"Trials are ranked by the {metric.title} on the validation images in the kept epoch{mean}. "
        f"{test} The validation figure of the best of {len(trials)} is too good by being the best: "
        "what its options are worth, the test says, with seeds that did not choose them."
    )


def metric_title(metric: Metric) -> str:
    """Returns the metric's title with its unit: "accuracy, %"."""
    if metric.is_share:
        return f"{metric.title}, %"
    return metric.title


def shown(value: float, metric: Metric) -> str:
    if metric.is_share:
        return formats.percentage(value)
    return f"{value:.4f}"
