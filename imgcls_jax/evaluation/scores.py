"""Scores of a classifier from its logits, as plain Python values ready for JSON."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

DENSE_CLASSES = 50  # up to which all counts of the confusion matrix are kept
CONFUSED_PAIRS = 10  # how many of the most frequent confusions are listed


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log probabilities, float64 [N, K], of logits [N, K]."""
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities, float64 [N, K], of logits [N, K]."""
    return np.exp(log_softmax(logits))


@dataclasses.dataclass(frozen=True)
class Confusion:
    """A confusion matrix of `classes` rows (true) and columns (predicted), by its entries that are not 0.

    true, predicted, count: int64 [E], by rows.
    """

    true: np.ndarray
    predicted: np.ndarray
    count: np.ndarray
    classes: int

    @classmethod
    def of(cls, labels: np.ndarray, predicted: np.ndarray, classes: int) -> "Confusion":
        """Of labels and predictions, int [N] both."""
        cells, count = np.unique(labels.astype(np.int64) * classes + predicted, return_counts=True)
        return cls(*np.divmod(cells, classes), count, classes)

    @classmethod
    def dense(cls, matrix: Sequence[Sequence[int]]) -> "Confusion":
        """Of counts [K][K]."""
        counts = np.asarray(matrix)
        true, predicted = np.nonzero(counts)
        return cls(true, predicted, counts[true, predicted], len(counts))

    @classmethod
    def read(cls, scores: Mapping[str, Any]) -> "Confusion":
        """Of the figures that `score` gives, as a JSON file has them."""
        if "confusion" in scores:
            return cls.dense(scores["confusion"])
        entries = scores["confusion_entries"]
        columns = (np.array(entries[key], np.int64) for key in ("true", "predicted", "count"))
        return cls(*columns, len(scores["per_class"]))

    @property
    def rows(self) -> np.ndarray:
        """Sums of the rows, int64 [classes]: the examples of each class."""
        return np.bincount(self.true, self.count, self.classes).astype(np.int64)

    @property
    def errors(self) -> "Confusion":
        """The same without what is right, most frequent first, and equals by rows."""
        wrong = np.flatnonzero(self.true != self.predicted)
        order = wrong[np.argsort(-self.count[wrong], kind="stable")]
        return Confusion(self.true[order], self.predicted[order], self.count[order], self.classes)

    def most_confused(self, most: int) -> np.ndarray:
        """Sorted, `most` classes: those of the most frequent errors, and where errors are too few, the first others."""
        errors = self.errors
        pairs = np.stack([errors.true, errors.predicted], axis=1).ravel()
        ranked = dict.fromkeys([*pairs.tolist(), *range(self.classes)])
        return np.sort(list(ranked)[:most])

    def matrix(self, classes: np.ndarray) -> np.ndarray:
        """The counts [k, k] of these classes, sorted, alone."""
        inside = np.isin(self.true, classes) & np.isin(self.predicted, classes)
        matrix = np.zeros((len(classes), len(classes)), np.int64)
        places = (np.searchsorted(classes, each[inside]) for each in (self.true, self.predicted))
        matrix[tuple(places)] = self.count[inside]
        return matrix

    def to_json(self) -> dict[str, Any]:
        """The key of test.json and its content: up to DENSE_CLASSES classes all counts, else those that are not 0."""
        if self.classes <= DENSE_CLASSES:
            return {"confusion": self.matrix(np.arange(self.classes)).tolist()}
        columns = {"true": self.true, "predicted": self.predicted, "count": self.count}
        return {"confusion_entries": {key: column.tolist() for key, column in columns.items()}}


def score(logits: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> dict[str, Any]:
    """Scores of logits [N, K] against labels int [N], N being at least 1.

    accuracy: share of the examples, 0 to 1. loss: mean cross entropy in nats. macro: unweighted mean over the classes
    that have examples of precision, recall and f1. per_class: the same of each class with its support, in the order of
    `class_names`. confusion: [K][K] counts, rows true, columns predicted; of more than DENSE_CLASSES classes
    confusion_entries instead, columns `true`, `predicted` and `count` of the entries that are not 0. confused_pairs:
    the most frequent errors as {true, predicted, count}, most frequent first. examples: N.

    A ratio whose denominator is 0 (the precision of a class never predicted) is 0, as in scikit-learn with
    `zero_division=0`; so are the figures of a class without examples, which mean nothing.
    """
    labels, classes = np.asarray(labels), len(class_names)
    if logits.shape != (len(labels), classes) or not len(labels):
        raise ValueError(
            f"logits {logits.shape} do not fit {len(labels)} labels of {classes} classes."
        )

    predicted = np.argmax(logits, axis=-1)
    confusion = Confusion.of(labels, predicted, classes)
    hits = np.bincount(labels[predicted == labels], minlength=classes)
    support, taken = (np.bincount(each, minlength=classes) for each in (labels, predicted))
    figures = {
        "precision": _ratio(hits, taken),
        "recall": _ratio(hits, support),
        "f1": _ratio(2 * hits, support + taken),
    }
    return {
        "accuracy": float(hits.sum() / len(labels)),
        "loss": float(-np.take_along_axis(log_softmax(logits), labels[:, None], axis=-1).mean()),
        "macro": {key: float(values[support > 0].mean()) for key, values in figures.items()},
        "per_class": [
            {
                "name": str(class_names[k]),
                **{key: float(values[k]) for key, values in figures.items()},
                "support": int(support[k]),
            }
            for k in range(classes)
        ],
        **confusion.to_json(),
        "confused_pairs": _confused_pairs(confusion, class_names),
        "examples": len(labels),
    }


def confusion_changes(
    before: np.ndarray, after: np.ndarray, class_names: Sequence[str]
) -> list[dict[str, str | float]]:
    """The confusions whose counts differ most between two matrices [K, K], as {true, predicted, before, after}.

    CONFUSED_PAIRS of them, the largest difference first; matrices may be means over runs.
    """
    differences = np.asarray(after, np.float64) - before
    np.fill_diagonal(differences, 0)
    order = np.argsort(-np.abs(differences), axis=None, kind="stable")[:CONFUSED_PAIRS]
    return [
        {
            "true": str(class_names[i]),
            "predicted": str(class_names[j]),
            "before": float(before[i][j]),
            "after": float(after[i][j]),
        }
        for i, j in zip(*np.unravel_index(order, differences.shape), strict=True)
        if differences[i, j]
    ]


def absent(scores: Mapping[str, Any]) -> list[str]:
    """The classes of which there are no examples: the means over the classes leave them out."""
    return [row["name"] for row in scores["per_class"] if not row["support"]]


def train_test_gap(history: Sequence[Mapping[str, Any]], test: Mapping[str, Any]) -> float | None:
    """Training accuracy of the kept epoch less test accuracy, in percentage points.

    The former as measured while training: on augmented images, with dropout, under weights that changed. None where
    the history lacks the epoch.
    """
    kept = [line["train_accuracy"] for line in history if line["epoch"] == test["best_epoch"]]
    return 100 * (kept[0] - test["accuracy"]) if kept else None


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.zeros(len(numerator)), where=denominator > 0)


def _confused_pairs(confusion: Confusion, class_names: Sequence[str]) -> list[dict[str, Any]]:
    errors = confusion.errors
    columns = (
        each[:CONFUSED_PAIRS].tolist() for each in (errors.true, errors.predicted, errors.count)
    )
    return [
        {"true": str(class_names[i]), "predicted": str(class_names[j]), "count": count}
        for i, j, count in zip(*columns, strict=True)
    ]
