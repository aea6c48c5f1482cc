"""Tables that compare systems by the finished runs of each, one run a seed."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from imgcls_jax import backend
from imgcls_jax.config.options import WHERE, differing, flat_options
from imgcls_jax.errors import RunError
from imgcls_jax.evaluation import cost, paired
from imgcls_jax.evaluation.scores import Confusion, confusion_changes, train_test_gap
from imgcls_jax.files import write_atomically
from imgcls_jax.reporting import page
from imgcls_jax.reporting.plain_tables import csv_table, escape, latex_table, markdown_table
from imgcls_jax.run.folder import RunFolder

Groups = Sequence[
    tuple[str, Mapping[str, float], Sequence[RunFolder]]
]  # label, reported figures, runs

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
    accuracy_margin: (
        float | None
    )  # half the 95 % interval of that mean, percent; None for a single seed
    loss: float  # of the test set
    gap: float | None  # training less test accuracy, percentage points
    parameters: int
    trainable: int  # of these, in the last phase
    seconds_per_epoch: float
    epochs: float  # run
    train_seconds: float
    peak_memory: (
        float | None
    )  # bytes, the largest of the runs; None for runs of versions that did not take it
    device: str  # of training
    multiply_adds: int | None  # of one image
    latency: float | None  # seconds for one image
    images_per_second: float | None  # in batches
    reported: Mapping[str, float]  # any of REPORTED; accuracy in percent

    @property
    def accuracy_text(self) -> str:
        """In percent, with its margin."""
        margin = "" if self.accuracy_margin is None else f" ± {self.accuracy_margin:.2f}"
        return f"{self.accuracy:.2f}{margin}"


def summarize(groups: Groups, meter: Callable[[RunFolder], cost.Cost] | None = None) -> list[Row]:
    """A row for each (label, reported, runs); the runs differ in their seed alone.

    meter: measures what a run's model costs to use (evaluation/cost.py); without, that is not known.
    Raises RunError for a group without runs, an unfinished run, a seed that occurs twice, or runs of several
    configurations.
    """
    return [_row(label, reported, runs, meter) for label, reported, runs in groups]


def pairs(groups: Groups) -> list[str]:
    """A sentence, in Markdown, on each pair of systems with one test set, by evaluation/paired.py.

    Of more than MOST_PAIRED systems each is compared with the best alone.
    """
    right, prints = {}, {}
    for label, _, runs in groups:
        predictions = [run.predictions for run in runs]
        right[label] = np.stack(
            [probabilities.argmax(-1) == labels for probabilities, labels in predictions]
        )
        prints[label] = {run.data["splits"]["test"]["fingerprint"] for run in runs}
    labels = sorted(right, key=lambda label: -right[label].mean())
    both = list(itertools.combinations(labels, 2))  # those with the best stand first
    return [
        paired.sentence(escape(one), escape(other), paired.compare(right[one], right[other]))
        for one, other in (both if len(labels) <= MOST_PAIRED else both[: len(labels) - 1])
        if len(prints[one] | prints[other]) == 1
    ]


def confusions(groups: Groups) -> str:
    """A section on how the confusions of two systems differ on one test set, in Markdown; "" of other numbers."""
    prints = {run.data["splits"]["test"]["fingerprint"] for _, _, runs in groups for run in runs}
    if len(groups) != 2 or len(prints) != 1:
        return ""
    (first, _, before), (second, _, after) = groups
    class_names = before[0].data["class_names"]
    classes = np.arange(len(class_names))
    matrices = [
        [Confusion.read(run.test).matrix(classes) for run in runs] for runs in (before, after)
    ]
    means = [np.mean(of_runs, axis=0) for of_runs in matrices]
    changes = confusion_changes(*means, class_names)
    head = ("True class", "Taken for", first, second, "Difference")
    lines = [
        (
            change["true"],
            change["predicted"],
            *(f"{change[key]:g}" for key in ("before", "after")),
            _difference(change),
        )
        for change in changes
    ]
    table = markdown_table(head, lines, figures=range(2, 5))
    return f"\n## Confusions that changed most, in test images\n\n{table}"


def _difference(change: Mapping[str, float]) -> str:
    return f"{change['after'] - change['before']:+g}"


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
    """Two tables in Markdown, of the systems' figures and of their cost; a column is there where a row has a figure."""
    return "\n".join(_table(columns, markdown_table) for columns in (_columns(rows), _costs(rows)))


def latex(rows: Sequence[Row]) -> str:
    """The same in LaTeX."""
    return "\n".join(_table(columns, latex_table) for columns in (_columns(rows), _costs(rows)))


def _table(columns: Mapping[str, list[str]], table: Callable[..., str]) -> str:
    known = {title: cells for title, cells in columns.items() if set(cells) != {UNKNOWN}}
    words = [number for number, title in enumerate(known) if title in ("System", "Device")]
    return table(
        list(known),
        list(zip(*known.values(), strict=True)),
        figures={*range(len(known))} - {*words},
    )


def csv(rows: Sequence[Row]) -> str:
    """The table in CSV, unrounded; what is not known stays empty."""
    fields = [field.name for field in dataclasses.fields(Row) if field.name != "reported"]
    head = fields + [f"reported_{key}" for key in REPORTED]
    lines = (
        [getattr(row, field) for field in fields] + [row.reported.get(key) for key in REPORTED]
        for row in rows
    )
    return csv_table([head, *lines])


def write(
    groups: Groups,
    folder: Path,
    *,
    title: str,
    meter: Callable[[RunFolder], cost.Cost] | None = None,
) -> str:
    """Writes the comparison into the folder, which is made, and returns its tables and sentences.

    table.md with everything, table.csv, table.tex; table.png, cost.png and curves.png. meter: as of `summarize`.
    """
    from imgcls_jax.reporting import compare_plots, plots

    rows, sentences = summarize(groups, meter), pairs(groups)
    folder.mkdir(parents=True, exist_ok=True)
    points = "".join(f"- {sentence}\n" for sentence in sentences)
    pictures = {
        "table.png": ("Test accuracy of each row", compare_plots.accuracies(rows)),
        "cost.png": (
            "Test accuracy against parameters and training time",
            compare_plots.costs(rows),
        ),
        "curves.png": ("Validation accuracy against the epoch", compare_plots.curves(groups)),
    }
    for name, (_, figure) in pictures.items():
        plots.save(figure, folder / name)
    shown = "".join(f"\n![{words}]({name})\n" for name, (words, _) in pictures.items())
    shown = f"{confusions(groups)}{shown}"
    text = f"# {escape(title)}\n\n{markdown(rows)}\n{_note(rows, paired=bool(points))}\n\n{points}{shown}"
    write_atomically(folder / "table.csv", csv(rows).encode())
    write_atomically(folder / "table.tex", latex(rows).encode())
    write_atomically(folder / "table.md", text.encode())
    return f"{markdown(rows)}\n{points}"


def _note(rows: Sequence[Row], *, paired: bool) -> str:
    note = (
        "Means over the seeds; ± is half the 95 % interval of the mean (Student's t). Accuracy and loss are of the "
        "test set. The gap is the training accuracy of the kept epoch, as measured while training, less the test "
        "accuracy, in percentage points. Time is of training alone, without evaluation."
    )
    if any(row.reported for row in rows):
        note += (
            " Reported figures are those of the report that the study repeats, on its own device."
        )
    if any(row.multiply_adds for row in rows):
        note += (
            " Multiply-adds are of one image, in convolutions and matrix products; latency (of one image) and images/s "
            f"(in batches of {cost.BATCH}) were measured for this table, on {escape(backend.describe()['device'])}."
        )
    if paired:
        note += (
            " The pairs are compared on the same test images: McNemar's test, or the bootstrap over "
            "images and seeds."
        )
    return note


def _row(label: str, reported: Mapping[str, float], runs: Sequence[RunFolder], meter) -> Row:
    if not runs:
        raise RunError(f"Row {label!r} has no run to summarize.")
    unknown = set(reported) - set(REPORTED)
    if unknown:
        raise ValueError(
            f"Row {label!r} reports {sorted(unknown)}; accepted are {', '.join(REPORTED)}."
        )
    _check_alike(label, runs)
    tests = [run.test for run in runs]

    def mean(key: str) -> float:
        return sum(test[key] for test in tests) / len(tests)

    accuracies = [100 * test["accuracy"] for test in tests]
    memory = [test.get("peak_memory") for test in tests]
    use = meter(runs[0]) if meter else None
    return Row(
        label=label,
        seeds=len(runs),
        accuracy=sum(accuracies) / len(accuracies),
        accuracy_margin=margin(accuracies),
        loss=mean("loss"),
        gap=_mean(
            [train_test_gap(run.history, test) for run, test in zip(runs, tests, strict=True)]
        ),
        parameters=tests[0]["parameters"],
        trainable=tests[0].get("trainable", tests[0]["parameters"]),
        seconds_per_epoch=mean("seconds_per_epoch"),
        epochs=mean("epochs"),
        train_seconds=mean("train_seconds"),
        peak_memory=None if None in memory else max(memory),
        device=", ".join(dict.fromkeys(str(run.environment.get("device", "")) for run in runs)),
        multiply_adds=use and use.multiply_adds,
        latency=use and use.latency,
        images_per_second=use and use.images_per_second,
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
            listed = ", ".join(
                f"{key} ({first.get(key)!r} and {config.get(key)!r})" for key in differs
            )
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
    return {
        "System": [row.label for row in rows],
        "Seeds": [str(row.seeds) for row in rows],
        "Accuracy, %": [row.accuracy_text for row in rows],
        "Reported, %": _reported(rows, "accuracy", ".2f"),
        "Loss": [f"{row.loss:.4f}" for row in rows],
        "Reported loss": _reported(rows, "loss", "g"),
        "Gap, pp": [_if_known(row.gap, "+.1f") for row in rows],
        "Reported gap": _reported(rows, "gap", "+.1f"),
        "Epochs": [f"{row.epochs:.1f}".removesuffix(".0") for row in rows],
        "Reported epochs": _reported(rows, "epochs", "g"),
    }


def _costs(rows: Sequence[Row]) -> dict[str, list[str]]:
    partly = any(row.trainable < row.parameters for row in rows)
    return {
        "System": [row.label for row in rows],
        "Parameters": [f"{row.parameters:,}" for row in rows],
        "Trainable": [f"{row.trainable:,}" if partly else UNKNOWN for row in rows],
        "Multiply-adds, M": [_if_known(row.multiply_adds, ",.1f", scale=1e-6) for row in rows],
        "s/epoch": [f"{row.seconds_per_epoch:.2f}" for row in rows],
        "Reported s/epoch": _reported(rows, "seconds_per_epoch", "g"),
        "Training": [page.duration(row.train_seconds) for row in rows],
        "Peak memory, MB": [_if_known(row.peak_memory, ",.0f", scale=1e-6) for row in rows],
        "Latency, ms": [_if_known(row.latency, ",.2f", scale=1e3) for row in rows],
        "Images/s": [_if_known(row.images_per_second, ",.0f") for row in rows],
        "Device": [row.device for row in rows],
    }


def _reported(rows: Sequence[Row], key: str, form: str) -> list[str]:
    return [_if_known(row.reported.get(key), form) for row in rows]


def _if_known(value: float | None, form: str, *, scale: float = 1.0) -> str:
    return UNKNOWN if value is None else format(value * scale, form)
