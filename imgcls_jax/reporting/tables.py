"""Tables of scores, as evaluation/scores.py returns them, on the pages of runs and ensembles."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from imgcls_jax.data.dataset import Dataset
from imgcls_jax.evaluation.scores import classes_without_examples
from imgcls_jax.reporting import formats, page, templates

RATIOS = ("precision", "recall", "f1")
MOST_ROWS = 100  # of a table of classes
EXAMPLES = 6  # most images of a confused pair
MOST_IMAGES = 600  # of all classes in the grid of test images
MOST_OF_CLASS = 12  # in this grid
MOST_ANSWERS = 3  # of the classes that a class is taken for
MOST_OPEN = 20  # classes up to which the grid is open
SIDE = 48  # pixels on the page of the longer side of an image in a row, about

Scores = Mapping[str, Any]  # of evaluation/scores.py, or a part of them


def classes(scores: Scores, probabilities: np.ndarray, test: Dataset) -> Markup:
    """The tables of the classes and of the confused pairs, and test images of both.

    probabilities: [N, K], of the test set.
    """
    both = page.columns(per_class(scores), confused_pairs(scores))
    pairs = confused_images(scores, probabilities, test)
    return both + pairs + class_images(scores, probabilities, test)


def per_class(scores: Scores) -> Markup:
    """Precision, recall, F1 and support of each class, and their means."""
    means = [formats.percentage(scores["macro"][key]) for key in RATIOS]
    rows = [_class_row(scores["per_class"][k]) for k in worst_first(scores)]
    table = page.table(
        ["Class", "Precision", "Recall", "F1", "Images"],
        rows,
        foot=["Mean", *means, f"{scores['examples']:,}"],
        sorted_by="F1",
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
        rows = [rows[k] for k in worst_first(scores)]
    return [_class_row(row) for row in rows]


def worst_first(scores: Scores) -> list[int]:
    """The MOST_ROWS classes with the lowest F1, lowest first; those without test images are last."""
    rows = scores["per_class"]

    def rank(k: int) -> tuple[bool, float]:
        return not rows[k]["support"], rows[k]["f1"]

    return sorted(range(len(rows)), key=rank)[:MOST_ROWS]


def _class_row(row: Scores) -> list[str]:
    ratios = [formats.UNKNOWN] * len(RATIOS)
    if row["support"]:
        ratios = [formats.percentage(row[key]) for key in RATIOS]
    return [row["name"], *ratios, f"{row['support']:,}"]


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


def class_images(scores: Scores, probabilities: np.ndarray, test: Dataset) -> Markup:
    """A grid of the classes, worst first, each with the test images that are hardest for it.

    The hardest are those whose true class has the lowest probability: mistakes come first.
    """
    shown = []
    for k in worst_first(scores):
        indices = np.flatnonzero(test.labels == k)
        if len(indices):
            order = np.argsort(probabilities[indices, k], kind="stable")
            shown.append((k, indices[order]))
    most = min(MOST_IMAGES // max(len(shown), 1), MOST_OF_CLASS)
    predicted = probabilities.argmax(-1)
    confidences = probabilities.max(-1)
    cells = []
    for k, indices in shown:
        images = []
        for index in indices[:most]:
            is_wrong = bool(predicted[index] != k)
            description = test.class_names[k]
            if is_wrong:
                description += f", predicted as {test.class_names[predicted[index]]}"
            description += f", {formats.confidence(confidences[index])}"
            images.append((test.images[index], description, is_wrong))
        note = _answers(k, predicted[indices], test.class_names)
        cells.append({"name": test.class_names[k], "note": note, "images": images})
    grid = page.class_images(cells, shape=test.images.shape[1:], side=SIDE)
    is_open = len(cells) <= MOST_OPEN
    return templates.macros("tables.html").class_images(grid, is_open)


def _answers(label: int, predicted: np.ndarray, class_names: Sequence[str]) -> str:
    """`3 of 9 wrong: 2 as dog, 1 as cat`, of the predictions on a class's images."""
    counts = np.bincount(predicted, minlength=len(class_names))
    counts[label] = 0
    text = f"{counts.sum():,} of {len(predicted):,} wrong"
    most_frequent = np.argsort(-counts, kind="stable")[:MOST_ANSWERS]
    answers = []
    for k in most_frequent:
        if counts[k]:
            answers.append(f"{counts[k]:,} as {class_names[k]}")
    if not answers:
        return text
    return f"{text}: {', '.join(answers)}"
