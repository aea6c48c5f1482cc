"""Tables of scores, as evaluation/scores.py returns them, on the pages of runs and ensembles."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup

from imgcls_jax.data.dataset import Dataset
from imgcls_jax.evaluation.scores import classes_without_examples
from imgcls_jax.reporting import formats, page, templates

RATIOS = ("precision", "recall", "f1")
MOST_ROWS = 100  # of a table of classes
EXAMPLES = 6  # most images of a confused pair
SIDE = 48  # pixels on the page of the longer side of an image in a row, about

Scores = Mapping[str, Any]  # of evaluation/scores.py, or a part of them


def classes(scores: Scores, probabilities: np.ndarray, test: Dataset) -> Markup:
    """The tables of the classes and of the confused pairs, and test images of these pairs.

    probabilities: [N, K], of the test set.
    """
    both = page.columns(per_class(scores), confused_pairs(scores))
    return both + confused_images(scores, probabilities, test)


def per_class(scores: Scores) -> Markup:
    """Precision, recall, F1 and support of each class, and their means."""
    means = [formats.percentage(scores["macro"][key]) for key in RATIOS]
    rows = class_rows(scores)
    table = page.table(
        ["Class", "Precision", "Recall", "F1", "Images"],
        rows,
        foot=["Mean", *means, f"{scores['examples']:,}"],
    )
    cut = cut_note(len(rows), len(scores["per_class"]), which="lowest F1", file="test.json")
    return templates.macros("tables.html").per_class(table, absent_note(scores), cut)


def class_rows(scores: Scores) -> list[list[str]]:
    """Name, precision, recall and F1 in percent and support of each class.

    Of more than MOST_ROWS classes, those with the lowest F1. A class without test images has no
    figures, and comes last of these.
    """
    rows = scores["per_class"]
    if len(rows) > MOST_ROWS:
        rows = sorted(rows, key=lambda row: (not row["support"], row["f1"]))[:MOST_ROWS]
    return [[row["name"], *_ratios(row), f"{row['support']:,}"] for row in rows]


def _ratios(row: Scores) -> list[str]:
    if not row["support"]:
        return [formats.UNKNOWN] * len(RATIOS)
    return [formats.percentage(row[key]) for key in RATIOS]


def absent_note(scores: Scores) -> str:
    """A sentence on classes without test images; empty if there are none."""
    names = classes_without_examples(scores)
    if not names:
        return ""
    subject = f"{len(names):,} classes have"
    if len(names) == 1:
        subject = f"The class {names[0]} has"
    return f"{subject} no test image, and the means leave them out."


def cut_note(
    shown: int,
    total: int,
    *,
    which: str,
    file: str,
) -> str:
    """A note below a table that does not show all of its rows; empty if it does."""
    if shown == total:
        return ""
    return f"Shown are the {shown:,} of {total:,} classes with the {which}; {file} has all."


def confused_pairs(scores: Scores) -> Markup:
    """The most frequent errors, with bars."""
    pairs = scores["confused_pairs"]
    most = max([1, *(pair["count"] for pair in pairs)])
    rows = []
    for pair in pairs:
        row = {
            "label": pair["true"],
            "guess": pair["predicted"],
            "count": f"{pair['count']:,}",
            "bar": f"{100 * pair['count'] / most:.0f}",
        }
        rows.append(row)
    return templates.macros("tables.html").confused_pairs(rows)


def confused_images(scores: Scores, probabilities: np.ndarray, test: Dataset) -> Markup:
    """A row of test images of each of the most confused pairs, most confident first."""
    pairs = scores["confused_pairs"]
    if not pairs:
        return Markup()
    names = np.array(test.class_names)
    true_names = names[test.labels]
    predicted_names = names[probabilities.argmax(-1)]
    confidences = probabilities.max(-1)
    heads = []
    images = []
    descriptions = []
    for pair in pairs:
        of_pair = (true_names == pair["true"]) & (predicted_names == pair["predicted"])
        indices = np.flatnonzero(of_pair)
        order = np.argsort(-confidences[indices], kind="stable")
        shown = indices[order][:EXAMPLES]
        heads.append(page.taken_for(pair["true"], pair["predicted"]))
        images.append(test.images[shown])
        what = f"{pair['true']}, confused with {pair['predicted']}"
        shares = [formats.confidence(confidence) for confidence in confidences[shown]]
        descriptions.append([f"{what}, {share}" for share in shares])
    rows = page.image_rows(heads, images, descriptions=descriptions, side=SIDE)
    return templates.macros("tables.html").confused_images(rows, EXAMPLES)
