import json
import math

import numpy as np
import pytest

from imgcls_jax.evaluation.scores import score, softmax, train_test_gap


@pytest.fixture
def case():
    """200 noisy predictions of 12 classes; class 10 never predicted, class 11 never true."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 11, 200)
    logits = rng.normal(size=(200, 12)).astype(np.float32) + 2 * np.eye(12, dtype=np.float32)[labels]
    logits[:, 10] = -9
    return logits, labels, [f"class {k}" for k in range(12)]


def test_scores_equal_scikit_learn(case):
    metrics = pytest.importorskip("sklearn.metrics")
    logits, labels, names = case
    scores = score(*case)
    predicted, classes = logits.argmax(-1), range(12)

    assert scores["accuracy"] == metrics.accuracy_score(labels, predicted)
    assert scores["loss"] == pytest.approx(metrics.log_loss(labels, softmax(logits), labels=classes), rel=1e-9)
    assert scores["confusion"] == metrics.confusion_matrix(labels, predicted, labels=classes).tolist()
    expected = metrics.precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=0)
    for key, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        np.testing.assert_allclose([row[key] for row in scores["per_class"]], values, rtol=1e-12)
        if key != "support":
            assert scores["macro"][key] == pytest.approx(values.mean())
    assert [row["name"] for row in scores["per_class"]] == names
    assert scores["per_class"][10]["precision"] == 0 and scores["per_class"][11]["recall"] == 0
    assert scores["examples"] == 200


def test_confused_pairs_are_the_largest_counts_outside_the_diagonal(case):
    scores = score(*case)
    names = case[2]
    confusion = np.array(scores["confusion"])
    np.fill_diagonal(confusion, 0)
    pairs = scores["confused_pairs"]
    assert [pair["count"] for pair in pairs] == sorted(confusion.ravel().tolist(), reverse=True)[:10]
    for pair in pairs:
        assert pair["count"] == confusion[names.index(pair["true"]), names.index(pair["predicted"])]


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
    assert score(np.zeros((4, 7)), np.arange(4), list("abcdefg"))["loss"] == pytest.approx(math.log(7))


@pytest.mark.parametrize(("examples", "classes"), [(3, 2), (2, 3), (0, 2)])
def test_shapes_that_do_not_fit_are_refused(examples, classes):
    with pytest.raises(ValueError, match="do not fit"):
        score(np.zeros((examples, classes)), np.zeros(2 if examples else 0, int), ["a", "b"])


def test_the_gap_is_of_the_kept_epoch_in_points_and_has_a_sign():
    history = [{"epoch": 1, "train_accuracy": 0.5}, {"epoch": 2, "train_accuracy": 0.9}]
    assert train_test_gap(history, {"best_epoch": 2, "accuracy": 0.8}) == pytest.approx(10)
    assert train_test_gap(history, {"best_epoch": 1, "accuracy": 0.8}) == pytest.approx(-30)
    assert train_test_gap(history, {"best_epoch": 3, "accuracy": 0.8}) is None
