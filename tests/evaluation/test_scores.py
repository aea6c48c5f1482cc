"""Scores against scikit-learn's and by hand."""

import json
import math

import numpy as np
import pytest
from sklearn import metrics

from imgcls_jax.evaluation.scores import (
    Confusion,
    classes_without_examples,
    score,
    softmax,
    train_test_gap,
)


@pytest.fixture
def case():
    """200 noisy predictions of 12 classes; class 10 is never predicted, class 11 never true."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 11, 200)
    noise = rng.normal(size=(200, 12)).astype(np.float32)
    logits = noise + 2 * np.eye(12, dtype=np.float32)[labels]
    logits[:, 10] = -9
    return logits, labels, [f"class {k}" for k in range(12)]


def test_scores_equal_scikit_learn(case):
    logits, labels, names = case
    scores = score(*case)
    rows = scores["per_class"]
    predicted = logits.argmax(-1)
    classes = range(12)

    assert scores["accuracy"] == metrics.accuracy_score(labels, predicted)
    loss = metrics.log_loss(labels, softmax(logits), labels=classes)
    assert scores["loss"] == pytest.approx(loss, rel=1e-9)
    matrix = metrics.confusion_matrix(labels, predicted, labels=classes)
    assert scores["confusion"] == matrix.tolist()
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        labels, predicted, labels=classes, zero_division=0
    )
    assert [row["support"] for row in rows] == support.tolist()
    present = np.unique(labels)  # scikit-learn's mean over these leaves the same class out
    means = metrics.precision_recall_fscore_support(
        labels, predicted, labels=present, average="macro", zero_division=0
    )
    expected = {"precision": precision, "recall": recall, "f1": f1}
    for (name, values), mean in zip(expected.items(), means[:3], strict=True):
        np.testing.assert_allclose([row[name] for row in rows], values, rtol=1e-12)
        assert scores["macro"][name] == pytest.approx(mean)
        assert scores["macro"][name] == pytest.approx(values[present].mean())
    assert [row["name"] for row in rows] == names
    assert rows[10]["precision"] == 0
    assert rows[11]["recall"] == 0
    assert scores["examples"] == 200


def test_a_class_without_examples_is_left_out_of_the_means():
    logits = 9 * np.eye(4)[[0, 0, 1, 1, 0]]
    scores = score(logits, np.array([0, 0, 1, 1, 1]), ["a", "b", "c", "d"])
    assert scores["macro"]["recall"] == pytest.approx((1 + 2 / 3) / 2)
    assert classes_without_examples(scores) == ["c", "d"]


def test_of_many_classes_only_nonzero_counts_are_kept():
    labels = np.random.default_rng(0).integers(60, size=500)
    logits = 3 * np.eye(60)[labels] + np.random.default_rng(1).normal(size=(500, 60))
    scores = score(logits, labels, [str(k) for k in range(60)])
    assert "confusion" not in scores
    assert set(scores["confusion_entries"]) == {"true", "predicted", "count"}
    confusion = Confusion.from_scores(json.loads(json.dumps(scores)))
    expected = np.zeros((60, 60), int)
    np.add.at(expected, (labels, logits.argmax(-1)), 1)
    np.testing.assert_array_equal(confusion.matrix(np.arange(60)), expected)
    np.testing.assert_array_equal(confusion.support, expected.sum(1))
    some = np.array([3, 20, 41])
    np.testing.assert_array_equal(confusion.matrix(some), expected[np.ix_(some, some)])
    few = Confusion.from_matrix(expected[:9, :9].tolist())
    np.testing.assert_array_equal(few.matrix(np.arange(9)), expected[:9, :9])


def test_the_most_confused_classes_are_those_of_the_most_frequent_errors():
    matrix = np.diag([50] * 8)
    matrix[6, 2] = 9
    matrix[1, 6] = 5
    matrix[3, 4] = 1
    confusion = Confusion.from_matrix(matrix)
    assert confusion.most_confused(3).tolist() == [1, 2, 6]
    assert confusion.most_confused(5).tolist() == [1, 2, 3, 4, 6]
    # The errors name five classes; the first of the others fill up.
    assert confusion.most_confused(7).tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_confused_pairs_are_the_largest_counts_off_the_diagonal(case):
    scores = score(*case)
    names = case[2]
    confusion = np.array(scores["confusion"])
    np.fill_diagonal(confusion, 0)
    pairs = scores["confused_pairs"]
    largest = sorted(confusion.ravel().tolist(), reverse=True)[:10]
    assert [pair["count"] for pair in pairs] == largest
    for pair in pairs:
        true, predicted = names.index(pair["true"]), names.index(pair["predicted"])
        assert pair["count"] == confusion[true, predicted]


def test_a_perfect_classifier_has_no_confused_pairs():
    scores = score(20 * np.eye(3), np.arange(3), ["a", "b", "c"])
    assert scores["accuracy"] == scores["macro"]["f1"] == 1
    assert scores["confused_pairs"] == []


def test_scores_survive_json(case):
    scores = score(*case)
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


def test_large_logits_stay_finite():
    logits = np.array([[5000.0, 0.0], [0.0, -5000.0]], np.float32)
    np.testing.assert_array_equal(softmax(logits), [[1, 0], [1, 0]])
    assert score(logits, np.array([0, 1]), ["a", "b"])["loss"] == 2500


def test_the_loss_of_equal_logits_is_the_logarithm_of_the_number_of_classes():
    scores = score(np.zeros((4, 7)), np.arange(4), list("abcdefg"))
    assert scores["loss"] == pytest.approx(math.log(7))


@pytest.mark.parametrize(("examples", "classes"), [(3, 2), (2, 3), (0, 2)])
def test_shapes_that_do_not_fit_are_refused(examples, classes):
    labels = np.zeros(min(examples, 2), int)
    with pytest.raises(ValueError, match="do not fit"):
        score(np.zeros((examples, classes)), labels, ["a", "b"])


def test_the_gap_is_of_the_best_epoch_in_points_and_has_a_sign():
    history = [{"epoch": 1, "train_accuracy": 0.5}, {"epoch": 2, "train_accuracy": 0.9}]
    assert train_test_gap(history, {"best_epoch": 2, "accuracy": 0.8}) == pytest.approx(10)
    assert train_test_gap(history, {"best_epoch": 1, "accuracy": 0.8}) == pytest.approx(-30)
    assert train_test_gap(history, {"best_epoch": 3, "accuracy": 0.8}) is None
