"""Tables of scores, as evaluation/scores.py gives them, for the pages of runs and of ensembles."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup

from imgcls_jax.data.dataset import Dataset
from imgcls_jax.reporting import page

EXAMPLES = 6  # most images of a confused pair
SIDE = 48  # pixels on the page that the longer side of an image in a row takes, about


def classes(scores: Mapping[str, Any], probabilities: np.ndarray, test: Dataset) -> Markup:
    """The tables of the classes and of the confused pairs, and test images of these pairs.

    probabilities: [N, K], of the test set.
    """
    return page.columns(per_class(scores), confused_pairs(scores)) + confused_images(scores, probabilities, test)


def per_class(scores: Mapping[str, Any]) -> Markup:
    """Precision, recall, F1 and support of each class, and their means."""
    keys = ("precision", "recall", "f1")
    rows = [
        [row["name"], *(f"{100 * row[key]:.2f}" for key in keys), f"{row['support']:,}"] for row in scores["per_class"]
    ]
    mean = ["Mean", *(f"{100 * scores['macro'][key]:.2f}" for key in keys), f"{scores['examples']:,}"]
    table = page.table(["Class", "Precision", "Recall", "F1", "Images"], rows, foot=mean)
    return page.macros("tables.html").per_class(table)


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
    names, predicted, confidences = np.array(test.class_names), probabilities.argmax(-1), probabilities.max(-1)
    heads, images, descriptions = [], [], []
    for pair in scores["confused_pairs"]:
        of_pair = (names[test.labels] == pair["true"]) & (names[predicted] == pair["predicted"])
        found = np.flatnonzero(of_pair)
        shown = found[np.argsort(-confidences[found], kind="stable")][:EXAMPLES]
        heads.append(page.taken_for(pair["true"], pair["predicted"]))
        images.append(test.images[shown])
        words = f"{pair['true']}, confused with {pair['predicted']}"
        descriptions.append([f"{words}, {plots.percent(confidence)}" for confidence in confidences[shown]])
    rows = page.image_rows(heads, images, descriptions, side=SIDE)
    return page.macros("tables.html").confused_images(rows, EXAMPLES)
