"""Scores of a classifier from its logits, as plain Python values ready for JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

CONFUSED_PAIRS = 10  # how many of the most frequent confusions are listed


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log probabilities, float64 [N, K], of logits [N, K]."""
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities, float64 [N, K], of logits [N, K]."""
    return np.exp(log_softmax(logits))


def score(logits: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> dict[str, Any]:
    """Scores of logits [N, K] against labels int [N], N being at least 1.

    accuracy: share of the examples, 0 to 1. loss: mean cross entropy in nats. macro: unweighted mean over the K classes
    of precision, recall and f1. per_class: the same of each class with its support, in the order of `class_names`.
    confusion: [K][K] counts, rows true, columns predicted. confused_pairs: the most frequent errors as
    {true, predicted, count}, most frequent first. examples: N.

    A ratio whose denominator is 0 (the precision of a class never predicted) is 0, as in scikit-learn with
    `zero_division=0`; unlike there, a class absent from labels and predictions still counts in the macro means.
    """
    labels, classes = np.asarray(labels), len(class_names)
    if logits.shape != (len(labels), classes) or not len(labels):
        raise ValueError(f"logits {logits.shape} do not fit {len(labels)} labels of {classes} classes.")

    predicted = np.argmax(logits, axis=-1)
    confusion = np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)
    hits, support = np.diag(confusion), confusion.sum(axis=1)
    precision = _ratio(hits, confusion.sum(axis=0))
    recall = _ratio(hits, support)
    f1 = _ratio(2 * hits, support + confusion.sum(axis=0))
    return {
        "accuracy": float(hits.sum() / len(labels)),
        "loss": float(-np.take_along_axis(log_softmax(logits), labels[:, None], axis=-1).mean()),
        "macro": {"precision": float(precision.mean()), "recall": float(recall.mean()), "f1": float(f1.mean())},
        "per_class": [
            {
                "name": str(class_names[k]),
                "precision": float(precision[k]),
                "recall": float(recall[k]),
                "f1": float(f1[k]),
                "support": int(support[k]),
            }
            for k in range(classes)
        ],
        "confusion": confusion.tolist(),
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


def train_test_gap(history: Sequence[Mapping[str, Any]], test: Mapping[str, Any]) -> float | None:
    """Training accuracy of the kept epoch less test accuracy, in percentage points.

    The former as measured while training: on augmented images, with dropout, under weights that changed. None where
    the history lacks the epoch.
    """
    kept = [line["train_accuracy"] for line in history if line["epoch"] == test["best_epoch"]]
    return 100 * (kept[0] - test["accuracy"]) if kept else None


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.zeros(len(numerator)), where=denominator > 0)


def _confused_pairs(confusion: np.ndarray, class_names: Sequence[str]) -> list[dict[str, Any]]:
    errors = confusion - np.diag(np.diag(confusion))
    order = np.argsort(-errors, axis=None, kind="stable")[:CONFUSED_PAIRS]  # stable: ties in the order of the classes
    return [
        {"true": str(class_names[i]), "predicted": str(class_names[j]), "count": int(errors[i, j])}
        for i, j in zip(*np.unravel_index(order, errors.shape), strict=True)
        if errors[i, j] > 0
    ]
