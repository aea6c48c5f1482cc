"""Tables and a plot that compare systems by the finished runs of each, one run a seed."""

import csv as csv_format
import dataclasses
import io
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imgcls_jax.errors import RunError
from imgcls_jax.evaluation import paired
from imgcls_jax.evaluation.scores import train_test_gap
from imgcls_jax.reporting.markdown import markdown_table
from imgcls_jax.run_folder import WHERE, RunFolder, differing, flat_options, write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REPORTED = ("accuracy", "loss", "gap", "epochs", "seconds_per_epoch")
MOST_PAIRED = 6  # systems of which every pair is compared
UNKNOWN = "–"
FREE = ("name", "seed", *WHERE)  # options that may differ between the runs of one row


@dataclasses.dataclass(frozen=True)
class Row:
    """One system: means over its seeds, and what was reported of it elsewhere."""

    label: str
    seeds: int
    accuracy: float  # of the test set, percent
    accuracy_margin: float | None  # half the 95 % interval of that mean, percent; None for a single seed
    loss: float  # of the test set
    gap: float | None  # training less test accuracy, percentage points
    parameters: int
    trainable: int  # of these, in the last phase
    seconds_per_epoch: float
    epochs: float  # run
    device: str
    reported: Mapping[str, float]  # any of REPORTED; accuracy in percent


def summarize(groups: Sequence[tuple[str, Mapping[str, float], Sequence[RunFolder]]]) -> list[Row]:
    """A row for each (label, reported, runs); the runs differ in their seed alone.

    Raises RunError for a group without runs, an unfinished run, a seed that occurs twice, or runs of several
    configurations.
    """
    return [_row(label, reported, runs) for label, reported, runs in groups]


def pairs(groups: Sequence[tuple[str, Mapping[str, float], Sequence[RunFolder]]]) -> list[str]:
    """A sentence on each pair of systems with one test set, from the predictions of their runs (evaluation/paired.py).

    Of more than MOST_PAIRED systems each is compared with the best alone.
    """
    right, prints = {}, {}
    for label, _, runs in groups:
        predictions = [run.predictions for run in runs]
        right[label] = np.stack([probabilities.argmax(-1) == labels for probabilities, labels in predictions])
        prints[label] = {run.data["splits"]["test"]["fingerprint"] for run in runs}
    labels = sorted(right, key=lambda label: -right[label].mean())
    both = list(itertools.combinations(labels, 2))  # those with the best stand first
    return [
        paired.sentence(one, other, paired.compare(right[one], right[other]))
        for one, other in (both if len(labels) <= MOST_PAIRED else both[: len(labels) - 1])
        if len(prints[one] | prints[other]) == 1
    ]


def margin(values: Sequence[float], *, confidence: float = 0.95) -> float | None:
    """Half the Student t interval of the values' mean; None for fewer than two values."""
    from scipy import stats

    n = len(values)
    if n < 2:
        return None
    mean = sum(values) / n
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
    return float(stats.t.ppf((1 + confidence) / 2, n - 1)) * deviation / math.sqrt(n)


def markdown(rows: Sequence[Row]) -> str:
    """The table in Markdown; columns of reported figures stand where any row has one."""
    columns = {title: cells for title, cells in _columns(rows).items() if set(cells) != {UNKNOWN}}
    escaped = [[cell.replace("|", r"\|") for cell in cells] for cells in zip(*columns.values(), strict=True)]
    return markdown_table(list(columns), escaped, figures=range(1, len(columns) - 1))


def csv(rows: Sequence[Row]) -> str:
    """The table in CSV, unrounded; what is not known stays empty."""
    fields = [field.name for field in dataclasses.fields(Row) if field.name != "reported"]
    file = io.StringIO()
    writer = csv_format.writer(file, lineterminator="\n")
    writer.writerow(fields + [f"reported_{key}" for key in REPORTED])
    for row in rows:
        writer.writerow([getattr(row, field) for field in fields] + [row.reported.get(key) for key in REPORTED])
    return file.getvalue()


def plot(rows: Sequence[Row]) -> "Figure":
    """Test accuracy of each row with its 95 % interval, and the reported accuracy as a hollow marker."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    from imgcls_jax.reporting import plots

    figure = Figure(figsize=(7.5, 1.15 + 0.42 * len(rows)), layout="constrained", facecolor="white")
    axes = figure.subplots()
    for y, row in enumerate(rows):
        if row.accuracy_margin is not None:
            low, high = row.accuracy - row.accuracy_margin, row.accuracy + row.accuracy_margin
            axes.plot([low, high], [y, y], color=plots.BLUE, linewidth=2.2, alpha=0.55, solid_capstyle="butt")
            axes.plot([low, high], [y, y], "|", color=plots.BLUE, markersize=9, markeredgewidth=1.6)
    means = [row.accuracy for row in rows]
    axes.plot(means, range(len(rows)), "o", color=plots.BLUE, markersize=7, label="mean, 95 % interval")
    reported = [(row.reported["accuracy"], y) for y, row in enumerate(rows) if "accuracy" in row.reported]
    if reported:
        hollow = {"markerfacecolor": "none", "markeredgecolor": plots.ORANGE, "markeredgewidth": 1.8}
        axes.plot(*zip(*reported, strict=True), "D", markersize=7, label="reported", linestyle="none", **hollow)

    axes.set_yticks(range(len(rows)), [row.label.replace("$", r"\$") for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.margins(x=0.08)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.ticklabel_format(axis="x", useOffset=False)
    axes.set_xlabel("Test accuracy, %", fontsize=9.5, color=plots.INK)
    plots.plain(axes)
    axes.grid(axis="x", color=plots.RULE, linewidth=0.9)
    figure.legend(loc="outside upper right", ncols=2, frameon=False, fontsize=9, labelcolor=plots.INK)
    return figure


def write(rows: Sequence[Row], folder: Path, title: str, sentences: Sequence[str] = ()) -> None:
    """Writes table.md, with the sentences below the table, table.csv and table.png into the folder, which is made."""
    from imgcls_jax.reporting import plots

    folder.mkdir(parents=True, exist_ok=True)
    note = (
        "Means over the seeds; ± is half the 95 % interval of the mean (Student's t). Accuracy and loss are of the "
        "test set. The gap is the training accuracy of the kept epoch, as measured while training, less the test "
        "accuracy, in percentage points. Time is of training alone, without evaluation."
    )
    if any(row.reported for row in rows):
        note += " Reported figures are those of the report that the study repeats, on its own device."
    compared = ""
    if sentences:
        points = "".join(f"- {sentence}\n" for sentence in sentences)
        compared = f"\n{points}\nBy the same test images: McNemar's test, or the bootstrap over images and seeds.\n"
    text = f"# {title}\n\n{markdown(rows)}\n{note}\n{compared}\n![Test accuracy of each row](table.png)\n"
    write_atomically(folder / "table.md", text.encode())
    write_atomically(folder / "table.csv", csv(rows).encode())
    plots.save(plot(rows), folder / "table.png")


def _row(label: str, reported: Mapping[str, float], runs: Sequence[RunFolder]) -> Row:
    if not runs:
        raise RunError(f"Row {label!r} has no run to summarize.")
    unknown = set(reported) - set(REPORTED)
    if unknown:
        raise ValueError(f"Row {label!r} reports {sorted(unknown)}; accepted are {', '.join(REPORTED)}.")
    _check_alike(label, runs)
    tests = [run.test for run in runs]

    def mean(key: str) -> float:
        return sum(test[key] for test in tests) / len(tests)

    accuracies = [100 * test["accuracy"] for test in tests]
    return Row(
        label=label,
        seeds=len(runs),
        accuracy=sum(accuracies) / len(accuracies),
        accuracy_margin=margin(accuracies),
        loss=mean("loss"),
        gap=_mean([train_test_gap(run.history, test) for run, test in zip(runs, tests, strict=True)]),
        parameters=tests[0]["parameters"],
        trainable=tests[0].get("trainable", tests[0]["parameters"]),
        seconds_per_epoch=mean("seconds_per_epoch"),
        epochs=mean("epochs"),
        device=", ".join(dict.fromkeys(str(run.environment.get("device", "")) for run in runs)),
        reported=dict(reported),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    return None if None in values else sum(values) / len(values)


def _check_alike(label: str, runs: Sequence[RunFolder]) -> None:
    first, *others = (flat_options(run.config) for run in runs)
    seeds = {first["seed"]: runs[0]}
    for run, config in zip(runs[1:], others, strict=True):
        differs = differing(first, config, free=FREE)
        if differs:
            listed = ", ".join(f"{key} ({first.get(key)!r} and {config.get(key)!r})" for key in differs)
            raise RunError(
                f"The runs of row {label!r} may differ in their seed alone, but {runs[0].path} and {run.path} "
                f"differ in {listed}."
            )
        if config["seed"] in seeds:
            raise RunError(
                f"Row {label!r} has seed {config['seed']} twice: {seeds[config['seed']].path} and {run.path}. "
                "An interval over seeds needs runs of different seeds."
            )
        seeds[config["seed"]] = run


def _columns(rows: Sequence[Row]) -> dict[str, list[str]]:
    def reported(key: str, form: str) -> list[str]:
        return [format(row.reported[key], form) if key in row.reported else UNKNOWN for row in rows]

    partly = any(row.trainable < row.parameters for row in rows)
    margins = ["" if row.accuracy_margin is None else f" ± {row.accuracy_margin:.2f}" for row in rows]
    return {
        "System": [row.label for row in rows],
        "Seeds": [str(row.seeds) for row in rows],
        "Accuracy, %": [f"{row.accuracy:.2f}{margin}" for row, margin in zip(rows, margins, strict=True)],
        "Reported, %": reported("accuracy", ".2f"),
        "Loss": [f"{row.loss:.4f}" for row in rows],
        "Reported loss": reported("loss", "g"),
        "Gap, pp": [UNKNOWN if row.gap is None else f"{row.gap:+.1f}" for row in rows],
        "Reported gap": reported("gap", "+.1f"),
        "Parameters": [f"{row.parameters:,}" for row in rows],
        "Trainable": [f"{row.trainable:,}" if partly else UNKNOWN for row in rows],
        "Epochs": [f"{row.epochs:.1f}".removesuffix(".0") for row in rows],
        "Reported epochs": reported("epochs", "g"),
        "s/epoch": [f"{row.seconds_per_epoch:.2f}" for row in rows],
        "Reported s/epoch": reported("seconds_per_epoch", "g"),
        "Device": [row.device for row in rows],
    }
