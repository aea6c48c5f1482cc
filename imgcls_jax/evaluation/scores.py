"""Scores of a classifier from its logits, as plain Python values ready for JSON."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import special

DENSE_CLASSES = 50  # up to which all counts of the confusion matrix are kept
CONFUSED_PAIRS = 10  # how many of the most frequent confusions are listed

Predictions = tuple[np.ndarray, np.ndarray]  # probabilities float [N, K] and labels int [N]


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Returns log probabilities, float64 [N, K], of logits [N, K]."""
    logits = np.asarray(logits, np.float64)
    return special.log_softmax(logits, axis=-1)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns probabilities, float64 [N, K], of logits [N, K]."""
    return np.exp(log_softmax(logits))


@dataclasses.dataclass(frozen=True)
class Confusion:
    """A confusion matrix, stored as its nonzero entries.

    Rows are true classes, columns predicted ones. `true`, `predicted` and `count` are int64 [E],
    sorted by row unless stated otherwise.
    """

    true: np.ndarray
    predicted: np.ndarray
    count: np.ndarray
    num_classes: int

    @classmethod
    def from_predictions(
        cls,
        labels: np.ndarray,
        predicted: np.ndarray,
        num_classes: int,
    ) -> "Confusion":
        """Counts labels int [N] against predicted classes int [N]."""
        cells = labels.astype(np.int64) * num_classes + predicted
        cells, count = np.unique(cells, return_counts=True)
        true, predicted = np.divmod(cells, num_classes)
        return cls(true, predicted, count, num_classes)

    @classmethod
    def from_matrix(cls, matrix: Sequence[Sequence[int]]) -> "Confusion":
        """Takes all counts [K][K]."""
        counts = np.asarray(matrix)
        true, predicted = np.nonzero(counts)
        return cls(true, predicted, counts[true, predicted], len(counts))

    @classmethod
    def from_scores(cls, scores: Mapping[str, Any]) -> "Confusion":
        """Reads the confusion matrix out of the result of `score`, as it is in test.json."""
        if "confusion" in scores:
            return cls.from_matrix(scores["confusion"])
        entries = scores["confusion_entries"]
        true = np.array(entries["true"], np.int64)
        predicted = np.array(entries["predicted"], np.int64)
        count = np.array(entries["count"], np.int64)
        return cls(true, predicted, count, num_classes=len(scores["per_class"]))

    @property
    def support(self) -> np.ndarray:
        """Number of examples of each true class, int64 [K]."""
        support = np.bincount(self.true, self.count, self.num_classes)
        return support.astype(np.int64)

    @property
    def errors(self) -> "Confusion":
        """The entries off the diagonal, most frequent first; equal counts stay sorted by row."""
        wrong = np.flatnonzero(self.true != self.predicted)
        most_frequent_first = np.argsort(-self.count[wrong], kind="stable")
        order = wrong[most_frequent_first]
        return Confusion(
            true=self.true[order],
            predicted=self.predicted[order],
            count=self.count[order],
            num_classes=self.num_classes,
        )

    def most_confused(self, count: int) -> np.ndarray:
        """Returns `count` classes, sorted: those of the most frequent errors.

        If the errors name fewer classes, the first of the other classes fill up.
        """
        errors = self.errors
        pairs = np.stack([errors.true, errors.predicted], axis=1)
        ranked = pairs.ravel().tolist()
        ranked.extend(range(self.num_classes))
        distinct = list(dict.fromkeys(ranked))
        return np.sort(distinct[:count])

    def matrix(self, classes: np.ndarray) -> np.ndarray:
        """Returns the counts, int64 [k, k], among the sorted `classes` alone."""
        inside = np.isin(self.true, classes)
        inside &= np.isin(self.predicted, classes)
        rows = np.searchsorted(classes, self.true[inside])
        columns = np.searchsorted(classes, self.predicted[inside])
        size = len(classes)
        matrix = np.zeros((size, size), np.int64)
        matrix[rows, columns] = self.count[inside]
        return matrix

    def to_json(self) -> dict[str, Any]:
        """Returns the entry for test.json: a whole matrix for up to DENSE_CLASSES classes.

        For more classes it has the nonzero counts only.
        """
        if self.num_classes <= DENSE_CLASSES:
            all_classes = np.arange(self.num_classes)
            return {"confusion": self.matrix(all_classes).tolist()}
        entries = {
            "true": self.true.tolist(),
            "predicted": self.predicted.tolist(),
            "count": self.count.tolist(),
        }
        return {"confusion_entries": entries}


def score(
    logits: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
) -> dict[str, Any]:
    """Scores logits [N, K] against labels int [N].

    Returns, ready for JSON:
      accuracy: share of correct predictions, 0 to 1.
      loss: mean cross entropy in nats.
      macro: precision, recall and f1, each the unweighted mean over the classes with examples. The
        mean recall is the balanced accuracy.
      per_class: name, precision, recall, f1 and support of each class, in the order of
        `class_names`.
      confusion: counts [K][K], rows true, columns predicted. For more than DENSE_CLASSES classes
        it is confusion_entries instead: `true`, `predicted` and `count` of the nonzero counts.
      confused_pairs: the most frequent errors as {true, predicted, count}, most frequent first.
      examples: N.

    A ratio with denominator 0, such as the precision of a class never predicted, is 0, as with
    scikit-learn's `zero_division=0`. (scikit-learn's own function would give the same figures, but
    warns about "a regression problem" when there are many classes and few examples.)

    Raises ValueError if the shapes do not fit or there are no examples.
    """
    labels = np.asarray(labels)
    num_classes = len(class_names)
    num_examples = len(labels)
    if num_examples == 0 or logits.shape != (num_examples, num_classes):
        raise ValueError(
            f"logits {logits.shape} do not fit {num_examples} labels of {num_classes} classes."
        )

    predicted = np.argmax(logits, axis=-1)
    is_correct = predicted == labels
    correct = np.bincount(labels[is_correct], minlength=num_classes)
    support = np.bincount(labels, minlength=num_classes)
    predictions = np.bincount(predicted, minlength=num_classes)
    ratios = {
        "precision": _ratio(correct, predictions),
        "recall": _ratio(correct, support),
        "f1": _ratio(2 * correct, support + predictions),
    }
    macro = {}
    has_examples = support > 0
    for name, values in ratios.items():
        macro[name] = float(values[has_examples].mean())
    log_p = log_softmax(logits)
    log_likelihoods = np.take_along_axis(log_p, labels[:, None], axis=-1)
    confusion = Confusion.from_predictions(labels, predicted, num_classes)
    return {
        "accuracy": float(correct.sum() / num_examples),
        "loss": float(-log_likelihoods.mean()),
        "macro": macro,
        "per_class": _per_class(class_names, ratios, support),
        **confusion.to_json(),
        "confused_pairs": _confused_pairs(confusion, class_names),
        "examples": num_examples,
    }


def confusion_changes(
    before: np.ndarray,
    after: np.ndarray,
    class_names: Sequence[str],
) -> list[dict[str, str | float]]:
    """Returns the errors whose counts differ most between two confusion matrices [K, K].

    At most CONFUSED_PAIRS of them as {true, predicted, before, after}, the largest difference
    first. The matrices may be means over runs.
    """
    differences = np.asarray(after, np.float64) - before
    np.fill_diagonal(differences, 0)
    largest_first = np.argsort(-np.abs(differences), axis=None, kind="stable")
    changes = []
    for cell in largest_first[:CONFUSED_PAIRS]:
        true, predicted = np.unravel_index(cell, differences.shape)
        if differences[true, predicted]:
            change = {
                "true": str(class_names[true]),
                "predicted": str(class_names[predicted]),
                "before": float(before[true][predicted]),
                "after": float(after[true][predicted]),
            }
            changes.append(change)
    return changes


def classes_without_examples(scores: Mapping[str, Any]) -> list[str]:
    """Returns the classes that the means over classes leave out, by name."""
    rows = scores["per_class"]
    return [row["name"] for row in rows if row["support"] == 0]


def train_test_gap(
    history: Sequence[Mapping[str, Any]],
    test: Mapping[str, Any],
) -> float | None:
    """Returns training accuracy of the best epoch minus test accuracy, in percentage points.

    The training accuracy was measured while training: on augmented images, with dropout, under
    changing weights. Returns None if the history does not have the epoch.
    """
    for line in history:
        if line["epoch"] == test["best_epoch"]:
            return 100 * (line["train_accuracy"] - test["accuracy"])
    return None


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    zeros = np.zeros(len(numerator))
    return np.divide(numerator, denominator, out=zeros, where=denominator > 0)


def _per_class(
    class_names: Sequence[str],
    ratios: Mapping[str, np.ndarray],
    support: np.ndarray,
) -> list[dict[str, Any]]:
    rows = []
    for k, name in enumerate(class_names):
        row = {"name": str(name)}
        for ratio, values in ratios.items():
            row[ratio] = float(values[k])
        row["support"] = int(support[k])
        rows.append(row)
    return rows


def _confused_pairs(
    confusion: Confusion,
    class_names: Sequence[str],
) -> list[dict[str, Any]]:
    errors = confusion.errors
    num_pairs = min(CONFUSED_PAIRS, len(errors.count))
    pairs = []
    for entry in range(num_pairs):
        pair = {
            "true": str(class_names[errors.true[entry]]),
            "predicted": str(class_names[errors.predicted[entry]]),
            "count": int(errors.count[entry]),
        }
        pairs.append(pair)
    return pairs
