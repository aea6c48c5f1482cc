"""Tables of scores, as evaluation/scores.py gives them, for the pages of runs and of ensembles."""

from collections.abc import Mapping
from html import escape
from typing import Any

from imgcls_jax.reporting import page


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
