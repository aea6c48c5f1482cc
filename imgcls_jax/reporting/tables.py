"""Tables of scores, as evaluation/scores.py gives them, for the pages of runs and of ensembles."""

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np

from imgcls_jax.data.dataset import Dataset
from imgcls_jax.reporting import page

EXAMPLES = 6  # most images of a confused pair
SIDE = 48  # pixels on the page that the longer side of an image in a row takes, about


def classes(scores: Mapping[str, Any], probabilities: np.ndarray, test: Dataset) -> str:
    """The tables of the classes and of the confused pairs, and test images of these pairs.

    probabilities: [N, K], of the test set.
    """
    return page.columns(per_class(scores), confused_pairs(scores)) + confused_images(scores, probabilities, test)


def per_class(scores: Mapping[str, Any]) -> str:
    """Precision, recall, F1 and support of each class, and their means."""
    keys = ("precision", "recall", "f1")
    rows = [
        [row["name"], *(f"{100 * row[key]:.2f}" for key in keys), f"{row['support']:,}"] for row in scores["per_class"]
    ]
    mean = ["Mean", *(f"{100 * scores['macro'][key]:.2f}" for key in keys), f"{scores['examples']:,}"]
    table = page.table(["Class", "Precision", "Recall", "F1", "Images"], rows, foot=mean)
    return f'{table}<p class="note">Precision, recall and F1 in percent, on the test set.</p>\n'


def confused_pairs(scores: Mapping[str, Any]) -> str:
    """The most frequent errors, with bars."""
    pairs = scores["confused_pairs"]
    if not pairs:
        return "<p>No test image is taken for another class.</p>\n"
    rows = "".join(
        f"<tr><th>{escape(pair['true'])}</th><td>{escape(pair['predicted'])}</td>"
        f'<td class="number bar" style="--share:{100 * pair["count"] / pairs[0]["count"]:.0f}%">{pair["count"]:,}</td>'
        f"</tr>\n"
        for pair in pairs
    )
    head = '<tr><th>True class</th><th>Taken for</th><th class="number">Images</th></tr>'
    return f'<div class="scroll"><table><thead>{head}</thead>\n<tbody>\n{rows}</tbody></table></div>\n'


def confused_images(scores: Mapping[str, Any], probabilities: np.ndarray, test: Dataset) -> str:
    """A row of test images of each of the most confused pairs, the most confident first."""
    from imgcls_jax.reporting import plots

    if not scores["confused_pairs"]:
        return ""
    names, predicted, confidences = np.array(test.class_names), probabilities.argmax(-1), probabilities.max(-1)
    heads, images, descriptions = [], [], []
    for pair in scores["confused_pairs"]:
        of_pair = (names[test.labels] == pair["true"]) & (names[predicted] == pair["predicted"])
        found = np.flatnonzero(of_pair)
        shown = found[np.argsort(-confidences[found], kind="stable")][:EXAMPLES]
        heads.append(f'{escape(pair["true"])} &rarr; <span class="wrong">{escape(pair["predicted"])}</span>')
        images.append(test.images[shown])
        words = f"{pair['true']}, confused with {pair['predicted']}"
        descriptions.append([f"{words}, {plots.percent(confidence)}" for confidence in confidences[shown]])
    return (
        '<h3>Images of the confused pairs</h3>\n<p class="note">True class &rarr; predicted class: the test images '
        f"of each pair on which the confidence is highest, {EXAMPLES} at most.</p>\n"
        + page.image_rows(heads, images, descriptions, side=SIDE)
    )
