"""Calibration against figures by hand, and against scikit-learn's."""

import json

import numpy as np
import pytest
from sklearn import metrics

from imgcls_jax.errors import RunError
from imgcls_jax.evaluation import calibration
from imgcls_jax.evaluation.scores import softmax
from imgcls_jax.run.folder import RunFolder


def drawn(count: int, sharpness: float, seed: int = 0):
    """Probabilities that are right as often as they say at a sharpness of 1, and too sure of themselves above."""
    random = np.random.default_rng(seed)
    logits = 2 * random.normal(size=(count, 4))
    labels = np.array([random.choice(4, p=row) for row in softmax(logits)])
    return softmax(sharpness * logits), labels


def test_errors_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.35, 0.65], [0.55, 0.45]])
    labels = np.array([0, 1, 1, 0])
    # Bins of 1/15: .9 is in the 14th (right), .8 in the 13th (wrong), .65 in the 10th, .55 in the 9th (both right).
    assert calibration.expected_calibration_error(probabilities, labels) == pytest.approx(
        (0.1 + 0.8 + 0.35 + 0.45) / 4
    )
    assert calibration.brier(probabilities, labels) == pytest.approx(
        2 * (0.1**2 + 0.8**2 + 0.35**2 + 0.45**2) / 4
    )
    assert calibration.negative_log_likelihood(probabilities, labels) == pytest.approx(
        -np.log([0.9, 0.2, 0.65, 0.55]).mean()
    )
    bins = calibration.reliability(probabilities, labels)
    assert [each["bin"] for each in bins] == [8, 9, 12, 13] and sum(
        each["examples"] for each in bins
    ) == 4


def test_against_scikit_learn():
    probabilities, labels = drawn(500, 1.7)
    assert calibration.negative_log_likelihood(probabilities, labels) == pytest.approx(
        metrics.log_loss(labels, probabilities)
    )
    two = probabilities[:, :2] / probabilities[:, :2].sum(-1, keepdims=True)
    two, labels = two[labels < 2], labels[labels < 2]
    assert calibration.brier(two, labels) == pytest.approx(
        2 * metrics.brier_score_loss(labels, two[:, 1])
    )


@pytest.mark.parametrize("sharpness", [0.4, 1.0, 3.0])
def test_the_temperature_undoes_what_made_it_too_sure(sharpness):
    validation, test = drawn(20_000, sharpness), drawn(20_000, sharpness, seed=1)
    found = calibration.calibrate(validation, test)
    assert found["temperature"] == pytest.approx(sharpness, rel=0.05)
    assert (
        found["scaled"]["ece"] < 0.015
        and found["scaled"]["accuracy"] == found["as_trained"]["accuracy"]
    )
    if sharpness != 1:
        assert found["as_trained"]["ece"] > 5 * found["scaled"]["ece"]
        assert found["scaled"]["nll"] < found["as_trained"]["nll"]
    json.dumps(found)


def test_the_classes_keep_their_order_at_any_temperature():
    probabilities, _ = drawn(200, 2.0)
    probabilities[0] = [1, 0, 0, 0]
    for temperature in (0.1, 1.0, 15.0):
        scaled = calibration.scale(probabilities, temperature)
        np.testing.assert_allclose(scaled.sum(-1), 1)
        assert (scaled.argmax(-1) == probabilities.argmax(-1)).all()
    np.testing.assert_allclose(calibration.scale(probabilities, 1.0), probabilities, atol=2e-7)


def test_entropy_and_mutual_information():
    sure, unsure = np.array([1.0, 0.0]), np.array([0.5, 0.5])
    np.testing.assert_allclose(
        calibration.entropy(np.stack([sure, unsure])), [0, np.log(2)], atol=1e-6
    )
    agree, differ = np.stack([unsure, unsure]), np.stack([sure, sure[::-1]])
    members = np.stack([agree, differ], axis=1)  # [member, example, class]
    np.testing.assert_allclose(
        calibration.mutual_information(members, np.array([0.5, 0.5])), [0, np.log(2)], atol=1e-6
    )


def test_rejecting_the_most_uncertain_leaves_the_better():
    uncertainty, right = np.arange(100.0), np.arange(100) < 80
    curve = {
        each["rejected"]: each["accuracy"] for each in calibration.rejection(uncertainty, right)
    }
    assert curve[0.0] == 0.8 and curve[0.1] == pytest.approx(80 / 90) and curve[0.3] == 1


def test_a_perfect_run_has_no_entropy_of_the_wrong():
    probabilities = np.eye(3)[[0, 1, 2, 0]]
    found = calibration.calibrate(
        (probabilities, np.array([0, 1, 2, 0])), (probabilities, np.array([0, 1, 2, 0]))
    )
    assert found["entropy"]["wrong"] is None and found["as_trained"]["ece"] == 0


def test_a_run_without_validation_predictions_says_what_adds_them(tmp_path):
    np.savez(tmp_path / "predictions.npz", probabilities=np.eye(2), labels=np.arange(2))
    with pytest.raises(RunError, match="imgcls report .* adds them"):
        calibration.write(RunFolder(tmp_path))
