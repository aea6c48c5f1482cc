"""Comparisons of systems as text: tables in Markdown, LaTeX and CSV, and sentences on pairs."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from imgcls_jax import backend
from imgcls_jax.evaluation import cost, paired
from imgcls_jax.evaluation.ensemble import check_shape
from imgcls_jax.evaluation.scores import Confusion, confusion_changes
from imgcls_jax.files import write_atomically
from imgcls_jax.reporting import formats
from imgcls_jax.reporting.compare_rows import REPORTED, Group, Meter, Row, summarize
from imgcls_jax.reporting.formats import UNKNOWN
from imgcls_jax.reporting.plain_tables import csv_table, escape, latex_table, markdown_table
from imgcls_jax.run.folder import RunFolder
from imgcls_jax.training.metrics import METRICS

MOST_PAIRED = 7  # systems of which every pair is compared
WORDS = ("System", "Device")  # columns that hold no figures
# Percentage points between accuracy and balanced accuracy from which the table has means over classes.
NOTABLE = 0.1

FOLDS_NOTE = (
    " Where a row was trained by folds of the training images, each run is counted under Seeds; each "
    "training image is a test image of one fold, and the interval is over the folds. Folds share most "
    "of their training images, so that the interval is rather too narrow."
)

ENSEMBLES_NOTE = " The parameters of an ensemble are those of all its members that vote."

Columns = Mapping[str, Sequence[str]]  # cells by the column's title


def write(
    groups: Sequence[Group],
    folder: Path,
    *,
    title: str,
    meter: Meter | None = None,
) -> str:
    """Writes the comparison into the folder, which is there; returns its tables and sentences.

    The files are table.md with everything, table.csv, table.tex, table.png, cost.png and, unless
    all are ensembles, curves.png. meter: as of `summarize`.
    """
    from imgcls_jax.reporting.plots import comparison, style

    rows = summarize(groups, meter)
    sentences = "".join(f"- {sentence}\n" for sentence in pairs(groups))
    style.save(comparison.accuracies(rows), folder / "table.png")
    style.save(comparison.costs(rows), folder / "cost.png")
    trained = [group for group in groups if not group.is_ensemble]
    tables = markdown(rows)
    note = _note(rows, has_pairs=bool(sentences))
    if any(group.runs[0].config.data.folds for group in trained):
        note += FOLDS_NOTE
    if len(trained) < len(groups):
        note += ENSEMBLES_NOTE
    text = (
        f"# {escape(title)}\n\n{tables}\n{note}\n\n"
        f"{sentences}{confusions(groups)}\n"
        "![Test accuracy of each row](table.png)\n\n"
        "![Test accuracy against parameters and training time](cost.png)\n"
    )
    if trained:
        curve_title = METRICS[comparison.curve_metric(trained)].title
        style.save(comparison.curves(trained), folder / "curves.png")
        text += f"\n![Validation {curve_title} against the epoch](curves.png)\n"
    write_atomically(folder / "table.csv", csv(rows).encode())
    write_atomically(folder / "table.tex", latex(rows).encode())
    write_atomically(folder / "table.md", text.encode())
    return f"{tables}\n{sentences}"


def markdown(rows: Sequence[Row]) -> str:
    """Two tables in Markdown: the systems' results, and their cost.

    Columns in which no row has a figure are left out.
    """
    return "\n".join(_table(columns, markdown_table) for columns in _columns(rows))


def latex(rows: Sequence[Row]) -> str:
    """The same in LaTeX."""
    return "\n".join(_table(columns, latex_table) for columns in _columns(rows))


def csv(rows: Sequence[Row]) -> str:
    """The rows in CSV, unrounded; figures that are not known are empty."""
    fields = [field.name for field in dataclasses.fields(Row)]
    fields.remove("reported")
    head = [*fields, *(f"reported_{key}" for key in REPORTED)]
    lines = [head]
    for row in rows:
        values = dataclasses.asdict(row)
        line = [values[field] for field in fields]
        line += [row.reported.get(key) for key in REPORTED]
        lines.append(line)
    return csv_table(lines)


def pairs(groups: Sequence[Group]) -> list[str]:
    """A sentence, in Markdown, on each pair of systems with one test set (evaluation/paired.py).

    If there are more than MOST_PAIRED systems, each is compared with the best alone.
    """
    fingerprints = {}
    hits = {}
    for label, _, runs in groups:
        fingerprints[label] = _test_fingerprints(runs)
        if len(fingerprints[label]) == 1:  # not of folds
            hits[label] = _hits(runs)
    labels = sorted(hits, key=lambda label: -hits[label].mean())
    compared = list(itertools.combinations(labels, 2))
    if len(labels) > MOST_PAIRED:
        compared = compared[: len(labels) - 1]  # the pairs with the best are first
    sentences = []
    for first, second in compared:
        if len(fingerprints[first] | fingerprints[second]) == 1:
            result = paired.compare(hits[first], hits[second])
            seeds = (len(hits[first]), len(hits[second]))
            sentence = paired.sentence(escape(first), escape(second), result, seeds=seeds)
            sentences.append(sentence)
    return sentences


def confusions(groups: Sequence[Group]) -> str:
    """A section, in Markdown, on how the confusions of two systems differ.

    Empty unless there are two systems with one test set.
    """
    if len(groups) != 2:
        return ""
    (first, _, runs), (second, _, other_runs) = groups
    if len(_test_fingerprints(runs) | _test_fingerprints(other_runs)) != 1:
        return ""
    class_names = runs[0].data["class_names"]
    changes = confusion_changes(
        _mean_confusion(runs, len(class_names)),
        _mean_confusion(other_runs, len(class_names)),
        class_names,
    )
    lines = []
    for change in changes:
        difference = change["after"] - change["before"]
        counts = [f"{change['before']:.1f}", f"{change['after']:.1f}", f"{difference:+.1f}"]
        shown = [count.removesuffix(".0") for count in counts]
        lines.append((change["true"], change["predicted"], *shown))
    head = ("True class", "Taken for", first, second, "Difference")
    table = markdown_table(head, lines, figures=range(2, len(head)))
    return f"\n## Confusions that changed most, in test images\n\n{table}"


def _hits(runs: Sequence[RunFolder]) -> np.ndarray:
    """Whether each run is right on each test image, bool [runs, N]."""
    hits = []
    for run in runs:
        check_shape(run)
        probabilities, labels = run.predictions
        hits.append(probabilities.argmax(-1) == labels)
    return np.stack(hits)


def _test_fingerprints(runs: Sequence[RunFolder]) -> set[str]:
    """Of the runs' test sets."""
    return {run.data["splits"]["test"]["fingerprint"] for run in runs}


def _mean_confusion(runs: Sequence[RunFolder], num_classes: int) -> np.ndarray:
    """Counts [K, K], the mean over the runs."""
    classes = np.arange(num_classes)
    matrices = [Confusion.from_scores(run.test).matrix(classes) for run in runs]
    return np.mean(matrices, axis=0)


def _note(rows: Sequence[Row], *, has_pairs: bool) -> str:
    """What the figures of the tables are."""
    note = (
        "Means over the seeds; in parentheses is the 95 % interval of the mean over the seeds "
        "(Student's t on the logit, so that it ends within 0 and 100 %). Accuracy and loss are of "
        "the test set. The gap is the training accuracy of the kept epoch, as measured "
        "while training, less the test accuracy, in percentage points. Time is of training alone, "
        "without evaluation."
    )
    if _class_means(rows):
        note += (
            " Balanced accuracy and macro F1 are means over the classes, each of which counts as much "
            "as any other."
        )
    if any(row.reported for row in rows):
        note += (
            " Reported figures are those of the report that the study repeats, on its own device."
        )
    if any(row.multiply_adds for row in rows):
        device = escape(backend.describe()["device"])
        note += (
            " Multiply-adds are of one image, in convolutions and matrix products; latency (of one "
            f"image) and images/s (in batches of {cost.BATCH_SIZE}) were measured for this table, on "
            f"{device}."
        )
    if has_pairs:
        note += (
            " The pairs are compared on the same test images. Of one seed each McNemar's test counts "
            "the images alone: another seed may change the result. Of three seeds and more the "
            "bootstrap counts images and seeds. The interval of a row counts its seeds alone, and is "
            "wide for few of them. So interval and test may disagree: intervals may overlap where "
            "the test shows a difference, and the other way round."
        )
    return note


def _columns(rows: Sequence[Row]) -> list[Columns]:
    """Of the two tables."""
    return [_results(rows), _costs(rows)]


def _table(columns: Columns, table: Callable[..., str]) -> str:
    """The columns in which at least one figure is known, as a table."""
    shown = {}
    for title, cells in columns.items():
        if set(cells) != {UNKNOWN}:
            shown[title] = cells
    figures = [number for number, title in enumerate(shown) if title not in WORDS]
    lines = list(zip(*shown.values(), strict=True))
    return table(list(shown), lines, figures=figures)


def _results(rows: Sequence[Row]) -> Columns:
    return {
        "System": [row.label for row in rows],
        "Seeds": [str(row.seeds) for row in rows],
        "Accuracy, %": [row.accuracy_text for row in rows],
        "Reported, %": _reported(rows, "accuracy", ".2f"),
        **_class_means(rows),
        "Loss": [f"{row.loss:.4f}" for row in rows],
        "Reported loss": _reported(rows, "loss", "g"),
        "Gap, pp": _cells([row.gap for row in rows], "+.1f"),
        "Reported gap": _reported(rows, "gap", "+.1f"),
        "Epochs": [cell.removesuffix(".0") for cell in _cells([row.epochs for row in rows], ".1f")],
        "Reported epochs": _reported(rows, "epochs", "g"),
    }


def _class_means(rows: Sequence[Row]) -> Columns:
    """Means over the classes, if they differ from those over the images in any row."""
    differences = [abs(row.accuracy - row.balanced_accuracy) for row in rows]
    if max(differences) < NOTABLE:
        return {}
    return {
        "Balanced accuracy, %": [f"{row.balanced_accuracy:.2f}" for row in rows],
        "Macro F1, %": [f"{row.macro_f1:.2f}" for row in rows],
    }


def _costs(rows: Sequence[Row]) -> Columns:
    trainable = _cells([row.trainable for row in rows], ",.0f")
    if not any(_trains_a_part(row) for row in rows):
        trainable = [UNKNOWN] * len(rows)
    return {
        "System": [row.label for row in rows],
        "Parameters": [f"{row.parameters:,}" for row in rows],
        "Trainable": trainable,
        "Multiply-adds, M": _cells([row.multiply_adds for row in rows], ",.1f", scale=1e-6),
        "s/epoch": _cells([row.seconds_per_epoch for row in rows], ".2f"),
        "Reported s/epoch": _reported(rows, "seconds_per_epoch", "g"),
        "Training": [_training_time(row) for row in rows],
        "Peak memory, MB": _cells([row.peak_memory for row in rows], ",.0f", scale=1e-6),
        "Latency, ms": _cells([row.latency for row in rows], ",.2f", scale=1e3),
        "Images/s": _cells([row.images_per_second for row in rows], ",.0f"),
        "Device": [row.device or UNKNOWN for row in rows],
    }


def _trains_a_part(row: Row) -> bool:
    return row.trainable is not None and row.trainable < row.parameters


def _training_time(row: Row) -> str:
    if row.train_seconds is None:
        return UNKNOWN
    return formats.duration(row.train_seconds)


def _cells(values: Sequence[float | None], form: str, *, scale: float = 1.0) -> list[str]:
    return [formats.optional(value, form, scale=scale) for value in values]


def _reported(rows: Sequence[Row], key: str, form: str) -> list[str]:
    return _cells([row.reported.get(key) for row in rows], form)
