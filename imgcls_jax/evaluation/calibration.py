"""Calibration of confidences: its errors, temperature scaling, and uncertainty.

Probabilities are [N, K], labels int [N]. A run's temperature is fitted on its validation set and
judged on its test set.
"""

from typing import Any

import numpy as np
from scipy import special

from imgcls_jax.errors import RunError
from imgcls_jax.evaluation.scores import Predictions, log_softmax, softmax
from imgcls_jax.run.folder import CALIBRATION, CALIBRATION_PICTURE, RunFolder

NUM_BINS = 15  # of equal width between 0 and 1, as in Guo et al. (2017, arXiv:1706.04599)
MIN_TEMPERATURE = 0.05
MAX_TEMPERATURE = 20.0
REJECTED_SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)  # of the examples, in a rejection curve
NUM_RESAMPLES = 1000  # of the bootstrap of the temperature
RESAMPLED_AT_ONCE = 2_000_000  # draws, which bounds the memory
TEMPERATURES = np.geomspace(
    MIN_TEMPERATURE, MAX_TEMPERATURE, 61
)  # of the bootstrap, in steps of 10 %
SIGNIFICANT = 0.05  # p below which a temperature other than 1 is shown
# A fitted temperature replaces 1 if it improves the mean log-likelihood by at least this.
MIN_GAIN = 1e-9
# Stored probabilities are rounded to multiples of 2**-24, so a stored 0 may have been this large.
MIN_PROBABILITY = 2.0**-25


def log_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Returns log probabilities, float64 [N, K], which are finite also for a probability of 0."""
    probabilities = np.asarray(probabilities, np.float64)
    return np.log(np.maximum(probabilities, MIN_PROBABILITY))


def negative_log_likelihood(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Returns the mean over the examples, in nats."""
    log_p = log_probabilities(probabilities)
    log_likelihoods = np.take_along_axis(log_p, labels[:, None], axis=-1)
    return float(-log_likelihoods.mean())


def brier_score(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Returns the mean squared distance to the one-hot label, summed over the classes: 0 to 2."""
    difference = np.array(probabilities, np.float64)
    examples = np.arange(len(labels))
    difference[examples, labels] -= 1
    scores = (difference**2).sum(-1)
    return float(scores.mean())


def reliability(probabilities: np.ndarray, labels: np.ndarray) -> list[dict[str, float]]:
    """Returns number of examples, mean confidence and accuracy of each confidence bin.

    Empty bins are left out.
    """
    confidence = _confidence(probabilities)
    correct = _correct(probabilities, labels)
    bin_indices = (confidence * NUM_BINS).astype(int)
    bin_indices = np.minimum(bin_indices, NUM_BINS - 1)  # a confidence of 1 is in the last bin
    bins = []
    for index in np.unique(bin_indices):
        in_bin = bin_indices == index
        statistics = {
            "bin": int(index),
            "examples": int(in_bin.sum()),
            "confidence": float(confidence[in_bin].mean()),
            "accuracy": float(correct[in_bin].mean()),
        }
        bins.append(statistics)
    return bins


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Returns the mean over the examples of |confidence - accuracy| of their bin: 0 to 1."""
    total = 0
    for statistics in reliability(probabilities, labels):
        error = abs(statistics["confidence"] - statistics["accuracy"])
        total += statistics["examples"] * error
    return total / len(labels)


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Returns the probabilities float64 [N, K] for logits divided by `temperature`.

    A temperature above 1 lowers the confidence. The order of the classes does not change.
    """
    return softmax(log_probabilities(probabilities) / temperature)


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Returns the temperature that minimizes the negative log-likelihood.

    It is between MIN_TEMPERATURE and MAX_TEMPERATURE.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        scaled = apply_temperature(probabilities, np.exp(log_temperature))
        return negative_log_likelihood(scaled, labels)

    bounds = np.log(MIN_TEMPERATURE), np.log(MAX_TEMPERATURE)
    minimum = minimize_scalar(loss, bounds=bounds, method="bounded")
    return float(np.exp(minimum.x))


def temperature_interval(probabilities: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Returns the 95 % interval of the fitted temperature: a percentile bootstrap over the examples.

    The examples are drawn NUM_RESAMPLES times with replacement, always the same ones. Each fit is
    the lowest point of the parabola through the best of TEMPERATURES and its neighbours.
    """
    log_p = log_probabilities(probabilities)
    examples = np.arange(len(labels))
    losses = np.empty((len(labels), len(TEMPERATURES)))  # of each example at each temperature
    for column, temperature in enumerate(TEMPERATURES):
        losses[:, column] = -log_softmax(log_p / temperature)[examples, labels]
    random = np.random.default_rng(0)
    equal = np.full(len(labels), 1 / len(labels))
    at_once = max(RESAMPLED_AT_ONCE // len(labels), 1)
    fits = []
    for start in range(0, NUM_RESAMPLES, at_once):
        resamples = min(at_once, NUM_RESAMPLES - start)
        counts = random.multinomial(len(labels), equal, size=resamples)
        fits.extend(map(_best_temperature, counts @ losses))
    low, high = np.quantile(fits, (0.025, 0.975))
    return float(low), float(high)


def _best_temperature(losses: np.ndarray) -> float:
    """Returns the temperature of the lowest loss, given the losses at TEMPERATURES; 1 if all are equal."""
    if not np.ptp(losses):
        return 1.0
    best = int(losses.argmin())
    if best in (0, len(losses) - 1):
        return float(TEMPERATURES[best])
    before, lowest, after = losses[best - 1 : best + 2]
    curvature = before - 2 * lowest + after
    step = np.log(TEMPERATURES[1] / TEMPERATURES[0])
    if not curvature:
        return float(TEMPERATURES[best])
    shift = 0.5 * (before - after) / curvature  # in steps
    return float(TEMPERATURES[best] * np.exp(step * shift))


def likelihood_ratio_test(gain: float, examples: int) -> float:
    """Returns the p-value of the hypothesis that the temperature is 1.

    gain: how much the fitted temperature lowers the mean negative log-likelihood of the examples.
    Twice the sum over the examples has a chi-squared distribution with one degree of freedom
    (Wilks, 1938).
    """
    statistic = max(2 * examples * gain, 0.0)
    return float(special.chdtrc(1, statistic))


def gain_of_p(p: float, examples: int) -> float:
    """Returns the gain of which `likelihood_ratio_test` gives this p-value."""
    return float(special.chdtri(1, p) / (2 * examples))


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Returns the predictive entropy of each example, in nats, float64 [N]."""
    probabilities = np.asarray(probabilities, np.float64)
    return -(probabilities * log_probabilities(probabilities)).sum(-1)


def mutual_information(members: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns how much the members of an ensemble disagree about each example.

    It is the mutual information between prediction and member, in nats, float64 [N].
    members: probabilities [M, N, K]. weights: [M].
    """
    members = np.asarray(members, np.float64)
    entropies = np.stack([entropy(member) for member in members])
    mean_prediction = np.tensordot(weights, members, axes=1)
    return np.maximum(entropy(mean_prediction) - weights @ entropies, 0.0)


def rejection_curve(uncertainty: np.ndarray, correct: np.ndarray) -> list[dict[str, float]]:
    """Returns the accuracy on the rest when the most uncertain share of the examples is rejected.

    uncertainty: float [N]. correct: bool [N].
    """
    most_certain_first = np.argsort(uncertainty, kind="stable")
    ranked = np.asarray(correct, np.float64)[most_certain_first]
    curve = []
    for share in REJECTED_SHARES:
        count = round((1 - share) * len(ranked))
        kept = ranked[: max(count, 1)]
        curve.append({"rejected": share, "accuracy": float(kept.mean())})
    return curve


def metrics(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Returns all calibration metrics of one set of predictions, ready for JSON."""
    correct = _correct(probabilities, labels)
    return {
        "accuracy": float(correct.mean()),
        "ece": expected_calibration_error(probabilities, labels),
        "brier": brier_score(probabilities, labels),
        "nll": negative_log_likelihood(probabilities, labels),
        "reliability": reliability(probabilities, labels),
    }


def require_validation_predictions(run: RunFolder) -> Predictions:
    """Returns the run's predictions on its validation set; raises RunError if there are none."""
    predictions = run.validation_predictions
    if predictions is None:
        raise RunError(
            f"{run.path} has no predictions of its validation set: imgcls report {run.path} adds "
            "them."
        )
    return predictions


def write(run: RunFolder) -> None:
    """Writes calibration.json of a run that has predictions of its validation and test sets.

    Raises RunError if those of the validation set are missing.
    """
    validation = require_validation_predictions(run)
    run.write_json(CALIBRATION, calibrate(validation, run.predictions))


def remove(run: RunFolder) -> None:
    """Removes calibration.json and its picture."""
    for name in (CALIBRATION, CALIBRATION_PICTURE):
        (run.path / name).unlink(missing_ok=True)


def best_temperature(run: RunFolder) -> float | None:
    """Returns the temperature for the confidences of a run or an ensemble.

    It is 1 where the validation set shows neither over- nor underconfidence or asks for more than
    any temperature does, and None where there is no calibration.json.
    """
    if not (run.path / CALIBRATION).exists():
        return None
    results = run.read_json(CALIBRATION)
    p = results.get("p")  # runs of older versions do not have it
    if p is not None and p >= SIGNIFICANT:
        return 1.0
    if is_at_limit(results["temperature"]):
        return 1.0
    return float(results["temperature"])


def is_at_limit(temperature: float) -> bool:
    """Returns whether a fitted temperature is the lowest or the highest that is tried, or nearly."""
    return not MIN_TEMPERATURE * 1.1 < temperature < MAX_TEMPERATURE * 0.9


def calibrate(validation: Predictions, test: Predictions) -> dict[str, Any]:
    """Compares the test predictions as trained with those at the temperature fitted on validation.

    Returns a dict ready for JSON, in which p is the p-value of the hypothesis that the temperature
    is 1, and low and high are its 95 % interval.
    """
    validation_probabilities, validation_labels = validation
    temperature = fit_temperature(validation_probabilities, validation_labels)
    scaled = apply_temperature(validation_probabilities, temperature)
    unscaled = apply_temperature(validation_probabilities, 1.0)  # sums to 1 after rounding, too
    gain = negative_log_likelihood(unscaled, validation_labels)
    gain -= negative_log_likelihood(scaled, validation_labels)
    if gain < MIN_GAIN:  # for example with one class, where all temperatures are equally good
        temperature = 1.0
    low, high = temperature_interval(validation_probabilities, validation_labels)
    probabilities, labels = test
    correct = _correct(probabilities, labels)
    entropies = entropy(probabilities)
    return {
        "temperature": temperature,
        "low": min(low, temperature),
        "high": max(high, temperature),
        "validation_examples": len(validation_labels),
        "p": likelihood_ratio_test(gain, len(validation_labels)),
        "as_trained": metrics(probabilities, labels),
        "scaled": metrics(apply_temperature(probabilities, temperature), labels),
        "entropy": mean_where_right_and_wrong(entropies, correct),
        "rejection": rejection_curve(entropies, correct),
    }


def mean_where_right_and_wrong(
    uncertainty: np.ndarray, correct: np.ndarray
) -> dict[str, float | None]:
    """Returns the mean uncertainty of right and of wrong predictions; None where there is none."""
    return {
        "right": _mean_or_none(uncertainty[correct]),
        "wrong": _mean_or_none(uncertainty[~correct]),
    }


def _mean_or_none(values: np.ndarray) -> float | None:
    if not len(values):
        return None
    return float(values.mean())


def _confidence(probabilities: np.ndarray) -> np.ndarray:
    """Returns the probability of the predicted class, float64 [N]."""
    probabilities = np.asarray(probabilities, np.float64)
    return probabilities.max(-1)


def _correct(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns whether the most probable class is the label, bool [N]."""
    return np.argmax(probabilities, axis=-1) == labels
