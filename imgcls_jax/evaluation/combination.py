"""How an ensemble combines its members' probabilities: weighted mean, confidence, or stacking.

The members' probabilities are [M, N, K], the ensemble's [N, K]; labels are int [N].
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from imgcls_jax.errors import shape_text
from imgcls_jax.evaluation.calibration import MIN_PROBABILITY, negative_log_likelihood
from imgcls_jax.evaluation.scores import log_softmax, softmax

# Smaller probabilities count as this one in stacking, so that the rounding of stored predictions
# to multiples of 2**-24 does not matter.
MIN_STACKED_PROBABILITY = 1e-4
L2_STRENGTH = 1e-3  # pulls the stacking layer towards the members' mean
STACKING_GRADIENT = 1e-7  # norm at which the fit of stacking has converged
STACKING_FOLDS = 5  # of the images that stacking is fitted to, for probabilities of these
MAX_GREEDY_ROUNDS = 50  # each adds one member, possibly one that is already in
EM_ITERATIONS = 500  # converges much earlier


def weighted_mean(members: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns probabilities float64 [N, K]; `weights` [M] sum to 1."""
    members = np.asarray(members, np.float64)
    return np.tensordot(weights, members, axes=1)


def equal_weights(num_members: int) -> np.ndarray:
    """Returns weights [M] that sum to 1."""
    return np.full(num_members, 1 / num_members)


def confidence_shares(members: np.ndarray) -> np.ndarray:
    """Returns the weight of each member for each image, [M, N], when they vote by confidence.

    A member's confidence is its largest probability; its weight is its share of their sum.
    """
    members = np.asarray(members, np.float64)
    confidences = members.max(-1)
    return confidences / confidences.sum(0)


def fit_weights(members: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the weights [M] that maximize the likelihood of the labels.

    The problem is concave; expectation maximization solves it.
    """
    examples = np.arange(len(labels))
    likelihoods = members[:, examples, labels].astype(np.float64)
    likelihoods = np.maximum(likelihoods, MIN_PROBABILITY)
    weights = equal_weights(len(members))
    for _ in range(EM_ITERATIONS):
        shares = weights[:, None] * likelihoods
        shares /= shares.sum(0)
        weights = shares.mean(1)
    return weights


def greedy_weights(members: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns weights [M] by greedy selection with replacement (Caruana et al., 2004).

    Each round adds the member that improves the accuracy most, or, if equal, the likelihood. It
    starts with no member and ends when no member improves the ensemble.
    """
    counts = np.zeros(len(members))
    one_more = np.eye(len(members))
    best_quality = (-1.0, -np.inf)
    for _ in range(MAX_GREEDY_ROUNDS):
        candidates = [counts + one_hot for one_hot in one_more]
        qualities = []
        for candidate in candidates:
            probabilities = weighted_mean(members, candidate / candidate.sum())
            qualities.append(_quality(probabilities, labels))
        quality = max(qualities)
        if quality <= best_quality:
            break
        best_quality = quality
        counts = candidates[qualities.index(quality)]
    return counts / counts.sum()


def _quality(probabilities: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    correct = probabilities.argmax(-1) == labels
    accuracy = float(correct.mean())
    return accuracy, -negative_log_likelihood(probabilities, labels)


@dataclasses.dataclass(frozen=True)
class Combination:
    """A rule with its fitted parameters; call it to combine members [M, N, K] into [N, K].

    weights: float [M], sum 1. The rule is a weighted mean (soft voting), unless `by_confidence` or
      `kernel` is set: then the weights only say how much each member counts, for reports.
    by_confidence: weight each member by its confidence on the image.
    kernel: float [M, K, K], stacking: a dense layer from the members' log probabilities to logits.
    bias: float [K] of that layer.
    """

    weights: np.ndarray
    by_confidence: bool = False
    kernel: np.ndarray | None = None
    bias: np.ndarray | None = None

    def __call__(self, members: np.ndarray) -> np.ndarray:
        """Returns the ensemble's probabilities, float64 [N, K]."""
        if self.kernel is not None:
            inputs = _stacked_inputs(members)
            return softmax(_stacked_logits(inputs, self.kernel, self.bias))
        if self.by_confidence:
            shares = confidence_shares(members)[..., None]
            return (shares * members).sum(0)
        return weighted_mean(members, self.weights)

    def to_json(self) -> dict[str, Any]:
        """Returns what `from_json` needs besides the weights."""
        if self.kernel is not None:
            layer = {"kernel": self.kernel.tolist(), "bias": self.bias.tolist()}
            return {"stacking": layer}
        if self.by_confidence:
            return {"by_confidence": True}
        return {}

    @classmethod
    def from_json(
        cls, weights: np.ndarray, content: Mapping[str, Any], *, num_classes: int
    ) -> "Combination":
        """Reads the rule from the content of ensemble.json.

        Raises ValueError if its layer is not of these members and classes.
        """
        layer = content.get("stacking")
        if layer:
            kernel = np.array(layer["kernel"])
            bias = np.array(layer["bias"])
            size = (len(weights), num_classes, num_classes)
            if kernel.shape != size or bias.shape != size[1:2]:
                raise ValueError(f"its layer should have the size {shape_text(size)}")
            return cls(weights, kernel=kernel, bias=bias)
        by_confidence = content.get("by_confidence", False)
        return cls(weights, by_confidence=by_confidence)


def fit_stacking(members: np.ndarray, labels: np.ndarray) -> Combination:
    """Fits a dense layer and a softmax on the log probabilities of all members (Wolpert, 1992).

    The layer minimizes the negative log-likelihood of the labels plus an L2 penalty on its distance
    to the mean of the log probabilities, where it starts: a convex problem. The weights of the
    result are the members' shares of the kernel's absolute sum.
    """
    from scipy.optimize import minimize

    inputs = _stacked_inputs(members)
    num_members, num_examples, num_classes = inputs.shape
    identity = np.eye(num_classes)
    targets = identity[labels]
    mean_kernel = np.concatenate([identity / num_members] * num_members)  # [M * K, K]
    rows = inputs.swapaxes(0, 1).reshape(num_examples, -1)
    means = rows.mean(0)
    centred = rows - means  # or kernel and bias depend on each other, and Newton's steps are poor

    def pack(kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
        return np.concatenate([kernel.ravel(), bias])

    def unpack(parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        kernel = parameters[:-num_classes].reshape(mean_kernel.shape)
        return kernel, parameters[-num_classes:]

    def predict(parameters: np.ndarray) -> np.ndarray:
        kernel, bias = unpack(parameters)
        return log_softmax(centred @ kernel + bias)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        kernel, _ = unpack(parameters)
        log_p = predict(parameters)
        distance = kernel - mean_kernel
        penalty = L2_STRENGTH * (distance**2).sum() / 2
        cross_entropy = -(targets * log_p).sum() / num_examples
        error = (np.exp(log_p) - targets) / num_examples
        gradient = pack(centred.T @ error + L2_STRENGTH * distance, error.sum(0))
        return cross_entropy + penalty, gradient

    @functools.lru_cache(maxsize=1)  # many products are asked for at the same parameters
    def probabilities(parameters: bytes) -> np.ndarray:
        return np.exp(predict(np.frombuffer(parameters)))

    def hessian_product(parameters: np.ndarray, direction: np.ndarray) -> np.ndarray:
        kernel, bias = unpack(direction)
        p = probabilities(parameters.tobytes())
        change = p * (centred @ kernel + bias)
        change -= p * change.sum(1, keepdims=True)
        change /= num_examples
        return pack(centred.T @ change + L2_STRENGTH * kernel, change.sum(0))

    minimum = minimize(
        loss,
        pack(mean_kernel, means @ mean_kernel),
        jac=True,
        hessp=hessian_product,
        method="trust-ncg",
        options={"gtol": STACKING_GRADIENT},
    )
    kernel, bias = unpack(minimum.x)
    bias = bias - means @ kernel
    kernel = kernel.reshape(num_members, num_classes, num_classes)
    sizes = np.abs(kernel).sum((1, 2))
    weights = sizes / sizes.sum()
    return Combination(weights, kernel=kernel, bias=bias)


def cross_fitted_stacking(members: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns stacking's probabilities [N, K] of the images themselves that it is fitted to.

    Those of each fold come from a layer fitted to the other folds: on its own images a layer is too
    sure of itself. Takes two images or more.
    """
    fold = np.arange(len(labels)) % min(STACKING_FOLDS, len(labels))
    probabilities = np.empty(members.shape[1:])
    for number in np.unique(fold):
        is_held_out = fold == number
        combination = fit_stacking(members[:, ~is_held_out], labels[~is_held_out])
        probabilities[is_held_out] = combination(members[:, is_held_out])
    return probabilities


def _stacked_inputs(members: np.ndarray) -> np.ndarray:
    members = np.asarray(members, np.float64)
    return np.log(np.maximum(members, MIN_STACKED_PROBABILITY))


def _stacked_logits(
    inputs: np.ndarray,
    kernel: np.ndarray,
    bias: np.ndarray,
) -> np.ndarray:
    logits = np.einsum("mni,mij->nj", inputs, kernel, optimize=True)
    return logits + bias
