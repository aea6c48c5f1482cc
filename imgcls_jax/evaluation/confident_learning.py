"""Label errors, by confident learning (Northcutt, Jiang and Chuang, JAIR 70, 2021).

An image whose probability of another class than its label reaches that class' threshold, the mean
that the images with that label have, is probably of that class.
"""

import numpy as np
from sklearn.linear_model import LogisticRegression

NUM_FOLDS = 5
INVERSE_PENALTIES = (10.0, 100.0)  # of the weights, on vectors whose mean square is 1
LEAST = 1e-6  # probability in a log loss
MAX_ITERATIONS = 200
TOLERANCE = 1e-6  # of thresholds: a class whose images all have one probability reaches it


def assign_folds(
    labels: np.ndarray, digests: np.ndarray, *, num_folds: int = NUM_FOLDS, seed: int = 0
) -> np.ndarray:
    """Returns the fold of each example, int64 [N], with the classes spread evenly.

    labels: int [N]. digests: uint64 [N], of the images. Copies are in one fold, so that no model
    has seen the image that it is asked about.
    """
    _, firsts, group = np.unique(digests, return_index=True, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(firsts))
    by_class = order[np.argsort(labels[firsts[order]], kind="stable")]
    fold = np.empty(len(firsts), np.int64)
    fold[by_class] = np.arange(len(firsts)) % num_folds
    return fold[group]


def out_of_sample(
    vectors: np.ndarray, labels: np.ndarray, folds: np.ndarray, *, num_classes: int
) -> np.ndarray:
    """Returns the probabilities of each example's classes, float64 [N, num_classes].

    They are those of a logistic regression that was fitted to the other folds. A class that has no
    example there has probability 0.

    vectors: float32 [N, F]. labels: int [N], of at least two classes. folds: int [N].
    """
    probabilities = np.zeros((len(labels), num_classes))
    inverse_penalty = _choose_penalty(vectors, labels, folds)
    for fold in np.unique(folds):
        is_held_out = folds == fold
        classes, rows = _predict(vectors, labels, is_held_out, inverse_penalty=inverse_penalty)
        probabilities[np.ix_(is_held_out, classes)] = rows
    return probabilities


def _predict(
    vectors: np.ndarray, labels: np.ndarray, is_held_out: np.ndarray, *, inverse_penalty: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the classes of the other examples, and their probabilities for those held out."""
    train_labels = labels[~is_held_out]
    classes = np.unique(train_labels)
    if len(classes) == 1:
        return classes, np.ones((is_held_out.sum(), 1))
    classifier = LogisticRegression(C=inverse_penalty, max_iter=MAX_ITERATIONS, tol=1e-3)
    classifier.fit(vectors[~is_held_out], train_labels)
    return classes, classifier.predict_proba(vectors[is_held_out])


def _choose_penalty(vectors: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> float:
    """Returns the one of INVERSE_PENALTIES that predicts the first fold best, by its log loss."""
    is_held_out = folds == folds.min()
    losses = {}
    for inverse_penalty in INVERSE_PENALTIES:
        classes, rows = _predict(vectors, labels, is_held_out, inverse_penalty=inverse_penalty)
        is_label = labels[is_held_out][:, None] == classes
        own = np.where(is_label, rows, 0).sum(1)  # 0 for a class of which there is no other example
        losses[inverse_penalty] = -np.log(np.maximum(own, LEAST)).mean()
    return min(losses, key=losses.__getitem__)


def label_errors(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Returns the examples whose labels are probably wrong, int64 [n], most suspicious first.

    They are those that the confident joint has off its diagonal and whose most probable class is
    another one. The less probable the label, the more suspicious.

    labels: int [N]. probabilities: float [N, K], each by a model that did not see the example.
    """
    thresholds = _thresholds(labels, probabilities)
    is_confident = probabilities >= thresholds - TOLERANCE
    guesses = np.where(is_confident, probabilities, -1).argmax(1)
    is_error = is_confident.any(1) & (guesses != labels)
    is_error &= probabilities.argmax(1) != labels
    examples = np.flatnonzero(is_error)
    order = np.argsort(label_probabilities(labels, probabilities)[examples], kind="stable")
    return examples[order]


def _thresholds(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Returns the mean probability of each class over its examples; inf where that is 0."""
    thresholds = np.full(probabilities.shape[1], np.inf)
    for label in np.unique(labels):
        mean = probabilities[labels == label, label].mean()
        if mean > 0:
            thresholds[label] = mean
    return thresholds


def label_probabilities(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Returns the probability of each example's label, float [N]."""
    return probabilities[np.arange(len(labels)), labels]


def hardest_pairs(labels: np.ndarray, probabilities: np.ndarray) -> list[tuple[int, int, float]]:
    """Returns pairs of classes, and how well they are told apart, worst first.

    That is the share of the images of either class for which its own probability is the larger of
    the two, the mean over both classes: 0.5 is chance, 1 is perfect. Pairs of which no image is
    taken for the other are left out.

    labels: int [N]. probabilities: float [N, K].
    """
    guesses = probabilities.argmax(1)
    num_classes = probabilities.shape[1]
    confusion = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(confusion, (labels, guesses), 1)
    confused = np.triu(confusion + confusion.T, 1)
    pairs = []
    for first, second in np.argwhere(confused):
        shares = [
            _share_above(labels, probabilities, first, second),
            _share_above(labels, probabilities, second, first),
        ]
        pairs.append((int(first), int(second), float(np.mean(shares))))
    return sorted(pairs, key=lambda pair: pair[2])


def _share_above(
    labels: np.ndarray, probabilities: np.ndarray, label: int, other: int
) -> np.floating | float:
    """Returns the share of a class' examples that have it more probable than the other class."""
    rows = probabilities[labels == label]
    if not len(rows):
        return 1.0
    return (rows[:, label] > rows[:, other]).mean()
