"""Tables of scores, as evaluation/scores.py gives them, for the pages of runs and of ensembles."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup

from imgcls_jax.data.dataset import Dataset
from imgcls_jax.evaluation.scores import absent
from imgcls_jax.reporting import page

RATIOS = ("precision", "recall", "f1")
UNKNOWN = "\N{EN DASH}"
MOST_ROWS = 100  # of a table of classes
EXAMPLES = 6  # most images of a confused pair
SIDE = 48  # pixels on the page that the longer side of an image in a row takes, about


def classes(scores: Mapping[str, Any], probabilities: np.ndarray, test: Dataset) -> Markup:
    """The tables of the classes and of the confused pairs, and test images of these pairs.

    probabilities: [N, K], of the test set.
    """
    return page.columns(per_class(scores), confused_pairs(scores)) + confused_images(
        scores, probabilities, test
    )


def per_class(scores: Mapping[str, Any]) -> Markup:
    """Precision, recall, F1 and support of each class, and their means."""
    mean = [
        "Mean",
        *(f"{100 * scores['macro'][key]:.2f}" for key in RATIOS),
        f"{scores['examples']:,}",
    ]
    rows, classes = class_rows(scores), len(scores["per_class"])
    table = page.table(["Class", "Precision", "Recall", "F1", "Images"], rows, foot=mean)
    left = cut(len(rows), classes, "lowest F1", "test.json")
    return page.macros("tables.html").per_class(table, absent_note(scores), left)


def class_rows(scores: Mapping[str, Any]) -> list[list[str]]:
    """Name, precision, recall and F1 in percent and support of each class; of more than MOST_ROWS, of the worst.

    A class without test images has no figures.
    """
    rows = scores["per_class"]
    if len(rows) > MOST_ROWS:
        rows = sorted(rows, key=lambda row: (not row["support"], row["f1"]))[:MOST_ROWS]
    figures = (
        [f"{100 * row[key]:.2f}" if row["support"] else UNKNOWN for key in RATIOS] for row in rows
    )
    return [
        [row["name"], *cells, f"{row['support']:,}"]
        for row, cells in zip(rows, figures, strict=True)
    ]


def absent_note(scores: Mapping[str, Any]) -> str:
    """What is said of classes without test images, behind other sentences; "" where there are none."""
    names = absent(scores)
    if not names:
        return ""
    has = f"The class {names[0]} has" if len(names) == 1 else f"{len(names):,} classes have"
    return f" {has} no test image, and the means leave them out."


def cut(shown: int, rows: int, which: str, file: str) -> str:
    """A note below a table that does not show all of its rows; "" where it does."""
    if shown == rows:
        return ""
    return f"Shown are the {shown:,} of {rows:,} classes with the {which}; {file} has all."


def confused_pairs(scores: Mapping[str, Any]) -> Markup:
    """The most frequent errors, with bars."""
    pairs = scores["confused_pairs"]
    most = max((pair["count"] for pair in pairs), default=1) or 1
    rows = [
        {
            **{key: pair[key] for key in ("true", "predicted")},
            "count": f"{pair['count']:,}",
            "share": f"{100 * pair['count'] / most:.0f}",
        }
        for pair in pairs
    ]
    return page.macros("tables.html").confused_pairs(rows)


def confused_images(scores: Mapping[str, Any], probabilities: np.ndarray, test: Dataset) -> Markup:
    """A row of test images of each of the most confused pairs, the most confident first."""
    from imgcls_jax.reporting import plots

    if not scores["confused_pairs"]:
        return Markup()
    names, predicted, confidences = (
        np.array(test.class_names),
        probabilities.argmax(-1),
        probabilities.max(-1),
    )
    heads, images, descriptions = [], [], []
    for pair in scores["confused_pairs"]:
        of_pair = (names[test.labels] == pair["true"]) & (names[predicted] == pair["predicted"])
        found = np.flatnonzero(of_pair)
        shown = found[np.argsort(-confidences[found], kind="stable")][:EXAMPLES]
        heads.append(page.taken_for(pair["true"], pair["predicted"]))
        images.append(test.images[shown])
        words = f"{pair['true']}, confused with {pair['predicted']}"
        descriptions.append(
            [f"{words}, {plots.percent(confidence)}" for confidence in confidences[shown]]
        )
    rows = page.image_rows(heads, images, descriptions, side=SIDE)
    return page.macros("tables.html").confused_images(rows, EXAMPLES)
