"""An audit of a data set: what is probably wrong with its labels and images, and corrections of it.

Probabilities of the labels are out of sample: each is of a classifier, linear in the vectors of
embedding.py, that was fitted to the other folds.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imgcls_jax.data import Source
from imgcls_jax.data.checks import image_digests
from imgcls_jax.data.corrections import REMOVE, digest_text, quoted
from imgcls_jax.data.dataset import Dataset, Datasets
from imgcls_jax.data.lazy_images import chunks
from imgcls_jax.errors import DataError, choose
from imgcls_jax.evaluation import confident_learning, neighbours

BLANK = 2.0  # grey levels of 255: an image whose pixels deviate less in each channel is blank
CONFUSED = 0.75  # a pair of classes is not told apart if fewer of its images are
# A copy is taken out of the split that comes later here.
HELD_OUT = ("test", "validation", "train")


@dataclasses.dataclass(frozen=True)
class Examples:
    """The images of an audit, split after split.

    split, row, index: str [N], int64 [N] and int64 [N], of each image its split, its place in the
    data set, and its place in the source. labels: int [N]. digests: uint64 [N]. deviations: of an
    image's pixels, float [N], in grey levels of the channel where they deviate most.
    """

    datasets: Datasets
    class_names: tuple[str, ...]
    split: np.ndarray
    row: np.ndarray
    index: np.ndarray
    labels: np.ndarray
    digests: np.ndarray
    deviations: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, example: int) -> np.ndarray:
        """Returns an image, uint8 [H, W, C]."""
        return self.datasets[self.split[example]].images[self.row[example]]

    def label(self, example: int) -> str:
        """Returns the class name of an example."""
        return self.class_names[self.labels[example]]


@dataclasses.dataclass(frozen=True)
class Audit:
    """What an audit finds. Numbers of examples index `examples`.

    probabilities: float64 [N, K], out of sample. label_errors, outliers, blank: int64 [n], worst
    first. copies: groups. near_duplicates: as of `neighbours.near_duplicates`. pairs: as of
    `confident_learning.hardest_pairs`. seconds: that each part took.
    """

    examples: Examples
    probabilities: np.ndarray
    label_errors: np.ndarray
    copies: list[np.ndarray]
    near_duplicates: list[tuple[int, int, float]]
    outliers: np.ndarray
    blank: np.ndarray
    pairs: list[tuple[int, int, float]]
    seconds: dict[str, float]

    @functools.cached_property
    def accuracy(self) -> float:
        """The share of labels that are most probable out of sample."""
        return float((self.probabilities.argmax(1) == self.examples.labels).mean())

    @property
    def confused_pairs(self) -> list[tuple[int, int, float]]:
        """The pairs of classes that cannot be told apart."""
        return [pair for pair in self.pairs if pair[2] < CONFUSED]

    def guess(self, example: int) -> str:
        """Returns the most probable class' name."""
        return self.examples.class_names[self.probabilities[example].argmax()]


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """A correction of an example, with its reason. score: probability of the label, or NaN."""

    example: int
    new_label: str
    reason: str
    score: float = float("nan")


def collect(source: Source, splits: Sequence[str] = ()) -> Examples:
    """Returns the images of some splits of a source, or of all if none is named.

    Raises ConfigError for a split that is not there, and DataError for too few images or classes.
    """
    datasets = source.datasets
    for split in splits:
        choose("split of this data", split, datasets)
    names = [split for split in datasets if split in (splits or datasets)]
    sizes = [len(datasets[split]) for split in names]
    digests = []
    deviations = []
    for split in names:
        for chunk in chunks(datasets[split].images):
            digests.append(image_digests(chunk))
            pixels = chunk.reshape(len(chunk), -1, chunk.shape[-1])
            deviations.append(pixels.std(1, dtype=np.float32).max(1))
    examples = Examples(
        datasets={split: datasets[split] for split in names},
        class_names=datasets[names[0]].class_names,
        split=np.repeat(names, sizes),
        row=np.concatenate([np.arange(size) for size in sizes]),
        index=np.concatenate([source.indices[split] for split in names]),
        labels=np.concatenate([datasets[split].labels for split in names]),
        digests=np.concatenate(digests),
        deviations=np.concatenate(deviations),
    )
    num_present = len(np.unique(examples.labels))
    num_different = len(np.unique(examples.digests))
    least = 2 * confident_learning.NUM_FOLDS
    if num_present < 2 or num_different < least:
        raise DataError(
            f"There are {len(examples):,} images of {num_present} classes, {num_different:,} of "
            f"them different: an audit needs at least {least} different images of 2 classes."
        )
    return examples


def run(examples: Examples, embed: Callable[[Dataset], np.ndarray]) -> Audit:
    """Audits the examples. embed: returns the vectors float32 [N, F] of a data set's images."""
    clock = _Clock()
    vectors = np.concatenate([embed(dataset) for dataset in examples.datasets.values()])
    if not np.isfinite(vectors).all():
        raise DataError(
            "The features are not finite, as of a run that diverged: give a config or another run."
        )
    vectors = neighbours.principal_components(vectors)
    clock.lap("features")
    labels = examples.labels
    folds = confident_learning.assign_folds(labels, examples.digests)
    num_classes = len(examples.class_names)
    probabilities = confident_learning.out_of_sample(
        neighbours.whitened(vectors), labels, folds, num_classes=num_classes
    )
    clock.lap("folds")
    distances, nearest = neighbours.nearest(vectors)
    clock.lap("neighbours")
    return Audit(
        examples=examples,
        probabilities=probabilities,
        label_errors=confident_learning.label_errors(labels, probabilities),
        copies=neighbours.copies(examples.digests),
        near_duplicates=neighbours.near_duplicates(distances, nearest, examples.digests),
        outliers=neighbours.outliers(distances),
        blank=np.flatnonzero(examples.deviations < BLANK),
        pairs=confident_learning.hardest_pairs(labels, probabilities),
        seconds=clock.seconds,
    )


class _Clock:
    """Seconds of parts that follow each other."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self._started = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = now - self._started
        self._started = now


def suggest(audit: Audit) -> list[Suggestion]:
    """Returns a correction for each suspected label error, then for blank images and copies.

    Of copies with one label the first stays, in the test set before validation before training;
    copies with different labels are all left out, since nobody knows which label is right. Near
    duplicates and outliers are left to the reader.
    """
    removed: dict[int, Suggestion] = {}
    for example in audit.blank:
        removed[int(example)] = Suggestion(int(example), REMOVE, "blank")
    for group in audit.copies:
        for suggestion in _without_copies(audit.examples, group):
            removed.setdefault(suggestion.example, suggestion)
    relabelled = []
    scores = confident_learning.label_probabilities(audit.examples.labels, audit.probabilities)
    for example in audit.label_errors.tolist():
        if example not in removed:
            guess = audit.guess(example)
            reason = f"probability of {guess}: {audit.probabilities[example].max():.3f}"
            relabelled.append(Suggestion(example, guess, reason, float(scores[example])))
    return [*relabelled, *removed.values()]


def _without_copies(examples: Examples, group: Iterable[int]) -> list[Suggestion]:
    ranked = sorted(group, key=lambda example: (HELD_OUT.index(examples.split[example]), example))
    first, *others = (int(example) for example in ranked)
    if len(np.unique(examples.labels[ranked])) > 1:
        reason = "copies with different labels"
        return [Suggestion(example, REMOVE, reason) for example in (first, *others)]
    reason = f"copy of {examples.split[first]} {examples.index[first]}"
    return [Suggestion(example, REMOVE, reason) for example in others]


def correction_rows(
    examples: Examples, suggestions: Iterable[Suggestion], source: Source
) -> list[dict[str, Any]]:
    """Returns the lines of a file of corrections, with those that the source has been through.

    They have the columns of data/corrections.py, `reason` and `score`.
    """
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    if source.corrections:
        for line in source.corrections.lines:
            rows[line.split, line.index] = {
                "split": line.split,
                "index": line.index,
                "new_label": quoted(line.new_label),
                "label": quoted(line.label),
                "image": line.image,
                "reason": "earlier correction",
            }
    for suggestion in suggestions:
        example = suggestion.example
        place = (str(examples.split[example]), int(examples.index[example]))
        label = quoted(examples.label(example))
        if place in rows:  # the source has another label than the corrected data
            label = rows.pop(place)["label"]
        rows[place] = {
            "split": place[0],
            "index": place[1],
            "new_label": quoted(suggestion.new_label),
            "label": label,
            "image": digest_text(examples.digests[example]),
            "reason": suggestion.reason,
            "score": _rounded(suggestion.score),
        }
    return list(rows.values())


def _rounded(score: float) -> str:
    if np.isnan(score):
        return ""
    return f"{score:.4f}"


def summary(audit: Audit) -> dict[str, Any]:
    """Returns what audit.json holds of an audit, ready for JSON."""
    examples = audit.examples
    scores = confident_learning.label_probabilities(examples.labels, audit.probabilities)

    def describe(example: int, **more: Any) -> dict[str, Any]:
        place = {"split": str(examples.split[example]), "index": int(examples.index[example])}
        return place | {"label": examples.label(example)} | more

    label_errors = []
    for example in audit.label_errors:
        guess = audit.guess(example)
        label_errors.append(describe(example, suggested=guess, score=float(scores[example])))
    near_duplicates = []
    for first, second, share in audit.near_duplicates:
        pair = {"first": describe(first), "second": describe(second), "distance": share}
        near_duplicates.append(pair)
    names = examples.class_names
    return {
        "examples": {split: len(dataset) for split, dataset in examples.datasets.items()},
        "accuracy": audit.accuracy,
        "seconds": audit.seconds,
        "label_errors": label_errors,
        "copies": [[describe(example) for example in group] for group in audit.copies],
        "near_duplicates": near_duplicates,
        "outliers": [describe(example) for example in audit.outliers],
        "blank": [describe(example) for example in audit.blank],
        "pairs": [[names[first], names[second], share] for first, second, share in audit.pairs],
    }


def counts(audit: Audit, broken: Mapping[Path, str]) -> dict[str, int]:
    """Returns how many of each problem there are. broken: by file, as of `data.read_readable`."""
    return {
        "suspected label errors": len(audit.label_errors),
        "groups of copies": len(audit.copies),
        "near duplicates": len(audit.near_duplicates),
        "outliers": len(audit.outliers),
        "blank images": len(audit.blank),
        "unreadable files": len(broken),
        "pairs of classes not told apart": len(audit.confused_pairs),
    }
