"""Whether confidences are what they say: calibration errors, temperature scaling, and what uncertainty is good for.

Probabilities are [N, K], labels int [N]. A run's temperature is fitted on its validation set, judged on its test set.
"""

from typing import Any

import numpy as np

from imgcls_jax.errors import RunError
from imgcls_jax.evaluation.scores import softmax
from imgcls_jax.run.folder import CALIBRATION, RunFolder

BINS = 15  # of equal width between 0 and 1, as in Guo et al. (2017, arXiv:1706.04599)
COLDEST, HOTTEST = 0.05, 20.0  # temperatures that are tried
REJECTED = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)  # shares of the images in a rejection curve
SMALLEST_GAIN = 1e-9  # of the mean log-likelihood, that a temperature other than 1 has to bring
SMALLEST = (
    2.0**-25
)  # what a stored probability of 0 may have been: they are kept to the 24th binary place


def log_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """float64 [N, K], finite also where a probability is 0."""
    return np.log(np.maximum(np.asarray(probabilities, np.float64), SMALLEST))


def negative_log_likelihood(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean, in nats."""
    return float(
        -np.take_along_axis(log_probabilities(probabilities), labels[:, None], axis=-1).mean()
    )


def brier(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the examples of the squared distance to the true class' unit vector: 0 to 2."""
    distance = np.array(probabilities, np.float64)
    distance[np.arange(len(labels)), labels] -= 1
    return float((distance**2).sum(-1).mean())


def reliability(probabilities: np.ndarray, labels: np.ndarray) -> list[dict[str, float]]:
    """Of each of BINS bins of the confidence that is not empty: its examples, mean confidence, and accuracy."""
    confidence, right = _confidence(probabilities, labels)
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return [
        {
            "bin": int(k),
            "examples": int((place == k).sum()),
            "confidence": float(confidence[place == k].mean()),
            "accuracy": float(right[place == k].mean()),
        }
        for k in np.unique(place)
    ]


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the examples of their bin's distance between confidence and accuracy: 0 to 1."""
    bins = reliability(probabilities, labels)
    return sum(
        each["examples"] * abs(each["confidence"] - each["accuracy"]) for each in bins
    ) / len(labels)


def scale(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """The probabilities of logits divided by `temperature`: above 1 less confident, the order of classes unchanged."""
    return softmax(log_probabilities(probabilities) / temperature)


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature of the least negative log-likelihood, between COLDEST and HOTTEST."""
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        return negative_log_likelihood(scale(probabilities, np.exp(log_temperature)), labels)

    found = minimize_scalar(loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded")
    return float(np.exp(found.x))


def likelihood_ratio_test(gain: float, examples: int) -> float:
    """The p-value of a fitted temperature that lowers the mean negative log-likelihood of the examples by `gain`.

    That of temperature 1 against any other: twice the sum is distributed as chi-squared of one degree (Wilks, 1938).
    """
    from scipy.stats import chi2

    return float(chi2.sf(max(2 * examples * gain, 0.0), 1))


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Predictive entropy of each example, in nats [N]."""
    return -(np.asarray(probabilities, np.float64) * log_probabilities(probabilities)).sum(-1)


def mutual_information(members: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """How far members disagree: between prediction and member, of probabilities [M, N, K], weights [M]; in nats [N]."""
    members = np.asarray(members, np.float64)
    each = np.stack([entropy(probabilities) for probabilities in members])
    return np.maximum(entropy(np.tensordot(weights, members, axes=1)) - weights @ each, 0.0)


def rejection(uncertainty: np.ndarray, right: np.ndarray) -> list[dict[str, float]]:
    """The accuracy on what is left where the most uncertain share of the examples is handed to a person."""
    kept = np.asarray(right, np.float64)[np.argsort(uncertainty, kind="stable")]
    counts = [max(round((1 - share) * len(kept)), 1) for share in REJECTED]
    return [
        {"rejected": share, "accuracy": float(kept[:count].mean())}
        for share, count in zip(REJECTED, counts, strict=True)
    ]


def figures(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """All figures of one set of predictions, ready for JSON."""
    _, right = _confidence(probabilities, labels)
    return {
        "accuracy": float(right.mean()),
        "ece": expected_calibration_error(probabilities, labels),
        "brier": brier(probabilities, labels),
        "nll": negative_log_likelihood(probabilities, labels),
        "reliability": reliability(probabilities, labels),
    }


def write(run: RunFolder) -> None:
    """Writes calibration.json of a run whose predictions on its validation set are there."""
    validation = run.validation_predictions
    if validation is None:
        raise RunError(
            f"{run.path} has no predictions of its validation set: imgcls report {run.path} adds them."
        )
    run.write_json(CALIBRATION, calibrate(validation, run.predictions))


def calibrate(
    validation: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]
) -> dict[str, Any]:
    """Figures of the test set's predictions as they are and at the temperature that the validation set's ask for.

    Both are (probabilities, labels). Ready for JSON; p is of the hypothesis that the temperature is 1.
    """
    temperature = fit_temperature(*validation)
    known, known_labels = validation
    gain = negative_log_likelihood(known, known_labels)
    gain -= negative_log_likelihood(scale(known, temperature), known_labels)
    if gain < SMALLEST_GAIN:  # as with one class, where any temperature is as good
        temperature = 1.0
    probabilities, labels = test
    _, right = _confidence(probabilities, labels)
    uncertain = entropy(probabilities)
    return {
        "temperature": temperature,
        "p": likelihood_ratio_test(gain, len(known_labels)),
        "as_trained": figures(probabilities, labels),
        "scaled": figures(scale(probabilities, temperature), labels),
        "entropy": {
            "right": float(uncertain[right].mean()) if right.any() else None,
            "wrong": float(uncertain[~right].mean()) if not right.all() else None,
        },
        "rejection": rejection(uncertain, right),
    }


def _confidence(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The probability of the class predicted, float64 [N], and whether it is the label, bool [N]."""
    probabilities = np.asarray(probabilities, np.float64)
    return probabilities.max(-1), probabilities.argmax(-1) == labels
