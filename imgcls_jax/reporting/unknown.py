"""What a run does not know, for readers: a section of its page and a few sentences.

The figures are those of evaluation/unknown.py.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup

from imgcls_jax.data.dataset import Dataset
from imgcls_jax.evaluation import conformal
from imgcls_jax.evaluation.strangeness import STRANGE
from imgcls_jax.reporting import formats, page, templates
from imgcls_jax.run.folder import UNKNOWN, RunFolder

MOST_SIZES = 6  # rows of the table of sets; the last has all larger ones
MOST_NAMED = 3  # classes of a set that are named under an image
SIDE = 96  # pixels on the page of an image's longer side, about
SCORES = {
    "max_probability": "1 \N{MINUS SIGN} largest probability",
    "energy": "Energy of the logits",
    "nearest": "Distance to validation images",
}
SIZES_HEAD = ["Classes", "Images", "Right, %", "Covered, %"]

Results = Mapping[str, Any]  # of unknown.json


def sentences(results: Results) -> str:
    """What the flag and the sets come to on the test images."""
    test = results["test"]
    flagged = test["false_alarms"]
    covered = test["coverage"]
    name = SCORES[results["score"]].lower()
    text = (
        f"The score of strangeness is the {name}, the best of {len(SCORES)} on validation. "
        f"{_shares(flagged)} of the test images are called unknown; at most "
        f"{formats.percent(results['false_alarms'])} was asked."
    )
    right_unknown = test["accuracy_unknown"]
    right_others = test["accuracy_others"]
    if right_unknown is not None and right_others is not None:
        text += (
            f" Of these {formats.percent(right_unknown)} are classified correctly, of the others "
            f"{formats.percent(right_others)}."
        )
    text += (
        f" The sets contain the true class of {_shares(covered)} of the test images; at least "
        f"{formats.percent(results['coverage'])} was asked."
    )
    if not results["mass"]:
        text += (
            " Every set has one class, since the run is right that often: a higher --coverage "
            "gives more."
        )
    return text


def _shares(share: Mapping[str, float]) -> str:
    return f"{formats.percent(share['share'])} {formats.interval(share['low'], share['high'])}"


def section(run: RunFolder, test: Dataset) -> Markup:
    """The section of unknown.json, which `imgcls unknown` writes; empty without the file.

    test: in the order of the run's predictions.
    """
    if not (run.path / UNKNOWN).exists():
        return Markup()
    results = run.read_json(UNKNOWN)
    head = ["Score", *(formats.title(kind) for kind in STRANGE), "Mean"]
    body = templates.macros("tables.html").unknown(
        sentences=sentences(results),
        sizes=page.table(SIZES_HEAD, _size_rows(results["test"]["sizes"])),
        scores=page.table(head, _score_rows(results)),
        examples=f"{results['validation_examples']:,}",
        strangest=_strangest(run, results, test),
    )
    return page.section("What it does not know", body)


def _size_rows(sizes: list[Mapping[str, Any]]) -> list[list[str]]:
    """The cells of SIZES_HEAD's table, smallest sets first."""
    rows = [_size_row(f"{row['classes']}", [row]) for row in sizes[: MOST_SIZES - 1]]
    larger = sizes[MOST_SIZES - 1 :]
    if larger:
        rows.append(_size_row(f"{larger[0]['classes']} or more", larger))
    return rows


def _size_row(name: str, sizes: list[Mapping[str, Any]]) -> list[str]:
    images = [row["images"] for row in sizes]
    right = np.average([row["accuracy"] for row in sizes], weights=images)
    covered = np.average([row["coverage"] for row in sizes], weights=images)
    return [name, f"{sum(images):,}", formats.percentage(right), formats.percentage(covered)]


def _score_rows(results: Results) -> list[list[str]]:
    rows = []
    for score, aurocs in results["candidates"].items():
        name = SCORES.get(score, score)
        if score == results["score"]:
            name = f"{name} (chosen)"
        cells = [_auroc(aurocs.get(kind)) for kind in (*STRANGE, "mean")]
        rows.append([name, *cells])
    return rows


def _auroc(value: float | None) -> str:
    return formats.optional(value, ".2f", scale=100)


def _strangest(run: RunFolder, results: Results, test: Dataset) -> Markup:
    """The strangest test images, each with the set of its classes."""
    probabilities, _ = run.predictions
    indices = [index for index in results["test"]["strangest"] if index < len(test)]
    if not indices:
        return Markup()
    sets = conformal.sets(probabilities[indices], results["mass"])
    descriptions = []
    captions = []
    for index, in_set in zip(indices, sets, strict=True):
        true_name = test.class_names[test.labels[index]]
        predicted = probabilities[index].argmax()
        predicted_name = test.class_names[predicted]
        descriptions.append(f"{true_name}, taken for {predicted_name}")
        is_wrong = bool(predicted != test.labels[index])
        pair = page.taken_for(true_name, predicted_name, is_wrong=is_wrong)
        captions.append(templates.macros("tables.html").strange(pair, _named(in_set, test)))
    return page.tiles(test.images[indices], descriptions, captions, side=SIDE)


def _named(in_set: np.ndarray, test: Dataset) -> str:
    """The classes of a set, or how many they are."""
    classes = np.flatnonzero(in_set)
    if len(classes) > MOST_NAMED:
        return f"{len(classes)} classes"
    return ", ".join(test.class_names[k] for k in classes)
