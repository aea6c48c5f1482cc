"""Calibration against figures by hand, and against scikit-learn's."""

import json

import numpy as np
import pytest
from sklearn import metrics

from imgcls_jax.errors import RunError
from imgcls_jax.evaluation import calibration
from imgcls_jax.evaluation.scores import softmax
from imgcls_jax.run.folder import RunFolder


def predictions(count: int, sharpness: float, seed: int = 0):
    """Probabilities that are calibrated at a sharpness of 1, and overconfident above; labels."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(count, 4))
    labels = np.array([rng.choice(4, p=row) for row in softmax(logits)])
    return softmax(sharpness * logits), labels


def test_metrics_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.35, 0.65], [0.55, 0.45]])
    labels = np.array([0, 1, 1, 0])
    # Bins of width 1/15: 0.9 is in the 14th (right), 0.8 in the 13th (wrong), 0.65 in the 10th,
    # 0.55 in the 9th (both right).
    ece = calibration.expected_calibration_error(probabilities, labels)
    assert ece == pytest.approx((0.1 + 0.8 + 0.35 + 0.45) / 4)
    brier = calibration.brier_score(probabilities, labels)
    assert brier == pytest.approx(2 * (0.1**2 + 0.8**2 + 0.35**2 + 0.45**2) / 4)
    nll = calibration.negative_log_likelihood(probabilities, labels)
    assert nll == pytest.approx(-np.log([0.9, 0.2, 0.65, 0.55]).mean())
    bins = calibration.reliability(probabilities, labels)
    assert [statistics["bin"] for statistics in bins] == [8, 9, 12, 13]
    assert sum(statistics["examples"] for statistics in bins) == 4


def test_metrics_equal_scikit_learn():
    probabilities, labels = predictions(500, 1.7)
    nll = calibration.negative_log_likelihood(probabilities, labels)
    assert nll == pytest.approx(metrics.log_loss(labels, probabilities))
    binary = probabilities[:, :2] / probabilities[:, :2].sum(-1, keepdims=True)
    binary, labels = binary[labels < 2], labels[labels < 2]
    brier = calibration.brier_score(binary, labels)
    assert brier == pytest.approx(2 * metrics.brier_score_loss(labels, binary[:, 1]))


@pytest.mark.parametrize("sharpness", [0.4, 1.0, 3.0])
def test_the_temperature_undoes_overconfidence(sharpness):
    validation = predictions(20_000, sharpness)
    test = predictions(20_000, sharpness, seed=1)
    result = calibration.calibrate(validation, test)
    before, after = result["as_trained"], result["scaled"]
    assert result["temperature"] == pytest.approx(sharpness, rel=0.05)
    assert after["ece"] < 0.015
    assert after["accuracy"] == before["accuracy"]
    if sharpness != 1:
        assert before["ece"] > 5 * after["ece"]
        assert after["nll"] < before["nll"]
    json.dumps(result)


@pytest.mark.parametrize("count", [24, 1000])
def test_the_interval_is_that_of_fits_on_resamples(count):
    probabilities, labels = predictions(count, 2.0)
    draws = np.random.default_rng(1).integers(0, count, size=(400, count))
    fits = [calibration.fit_temperature(probabilities[draw], labels[draw]) for draw in draws]
    low, high = calibration.temperature_interval(probabilities, labels)
    np.testing.assert_allclose([low, high], np.quantile(fits, (0.025, 0.975)), rtol=0.1)
    assert (low, high) == calibration.temperature_interval(probabilities, labels)
    assert low < calibration.fit_temperature(probabilities, labels) < high


def test_the_interval_where_all_temperatures_are_equally_good_or_the_largest_is_best():
    one_class = np.ones((40, 1)), np.zeros(40, int)
    assert calibration.temperature_interval(*one_class) == (1, 1)
    wrong = np.array([[0.9, 0.1]] * 30), np.ones(30, int)
    expected = (calibration.MAX_TEMPERATURE, calibration.MAX_TEMPERATURE)
    assert calibration.temperature_interval(*wrong) == pytest.approx(expected)


def test_the_classes_keep_their_order_at_any_temperature():
    probabilities, _ = predictions(200, 2.0)
    probabilities[0] = [1, 0, 0, 0]
    for temperature in (0.1, 1.0, 15.0):
        scaled = calibration.apply_temperature(probabilities, temperature)
        np.testing.assert_allclose(scaled.sum(-1), 1)
        assert (scaled.argmax(-1) == probabilities.argmax(-1)).all()
    unchanged = calibration.apply_temperature(probabilities, 1.0)
    np.testing.assert_allclose(unchanged, probabilities, atol=2e-7)


def test_entropy_and_mutual_information():
    certain = np.array([1.0, 0.0])
    uncertain = np.array([0.5, 0.5])
    entropies = calibration.entropy(np.stack([certain, uncertain]))
    np.testing.assert_allclose(entropies, [0, np.log(2)], atol=1e-6)
    members_agree = np.stack([uncertain, uncertain])
    members_differ = np.stack([certain, certain[::-1]])
    members = np.stack([members_agree, members_differ], axis=1)  # [member, example, class]
    information = calibration.mutual_information(members, np.array([0.5, 0.5]))
    np.testing.assert_allclose(information, [0, np.log(2)], atol=1e-6)


def test_rejecting_the_most_uncertain_leaves_the_better():
    uncertainty = np.arange(100.0)
    correct = np.arange(100) < 80
    curve = calibration.rejection_curve(uncertainty, correct)
    accuracies = {point["rejected"]: point["accuracy"] for point in curve}
    assert accuracies[0.0] == 0.8
    assert accuracies[0.1] == pytest.approx(80 / 90)
    assert accuracies[0.3] == 1


def test_a_perfect_run_has_no_entropy_of_wrong_predictions():
    labels = np.array([0, 1, 2, 0])
    perfect = np.eye(3)[labels], labels
    result = calibration.calibrate(perfect, perfect)
    assert result["entropy"]["wrong"] is None
    assert result["as_trained"]["ece"] == 0


def test_a_run_without_validation_predictions_says_what_adds_them(tmp_path):
    np.savez(tmp_path / "predictions.npz", probabilities=np.eye(2), labels=np.arange(2))
    with pytest.raises(RunError, match="imgcls report .* adds them"):
        calibration.write(RunFolder(tmp_path))


@pytest.mark.parametrize(
    "results, best",
    [
        ({"temperature": 1.3, "p": 0.01}, 1.3),
        ({"temperature": 1.3}, 1.3),  # of an older version
        ({"temperature": 1.3, "p": 0.2}, 1.0),
        ({"temperature": 0.0501, "p": 0.0}, 1.0),  # the lowest that is tried
    ],
)
def test_the_temperature_of_confidences_is_one_that_is_shown_to_be_better(
    results, best, tmp_path, monkeypatch
):
    run = RunFolder(tmp_path)
    assert calibration.best_temperature(run) is None
    (tmp_path / "calibration.json").touch()
    monkeypatch.setattr(run, "read_json", lambda name: results)
    assert calibration.best_temperature(run) == best


def test_p_is_the_same_for_probabilities_that_were_rounded():
    """Most are rounded upwards here, so that those of an image sum to more than 1."""
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=2, size=(500, 10))
    labels = np.array([rng.choice(10, p=p) for p in softmax(logits / 1.1)])
    unsure = softmax(logits)
    sure = np.full((4500, 10), 0.0007 / 9)
    sure[:, 0] = 0.9993
    probabilities = np.concatenate([unsure, sure])
    labels = np.concatenate([labels, np.zeros(4500, int)])
    whole = probabilities, labels
    rounded = probabilities.astype(np.float16).astype(np.float32), labels
    p = calibration.calibrate(whole, whole)["p"]
    assert 0.001 < p < 0.2
    assert calibration.calibrate(rounded, rounded)["p"] == pytest.approx(p, rel=0.02)


@pytest.mark.parametrize("gain", [0.0, 1e-4, 0.02])
def test_the_gain_of_a_p_value(gain):
    p = calibration.likelihood_ratio_test(gain, 1000)
    assert calibration.gain_of_p(p, 1000) == pytest.approx(gain, rel=1e-6)
