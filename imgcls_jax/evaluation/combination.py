"""How the probabilities of an ensemble's members become its own: weights, the members' confidences, or a learned layer.

Probabilities of M members are [M, N, K], the ensemble's [N, K]; labels int [N].
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from imgcls_jax.evaluation.scores import log_softmax, softmax

LEAST = 1e-4  # what is less probable counts as much for stacking: predictions are kept to the 24th binary place
STRENGTH = 1e-3  # of the pull on a stacking layer towards the members' mean


@dataclasses.dataclass(frozen=True)
class Combination:
    """An ensemble's rule with what was fitted for it.

    weights [M] sum to 1: of a weighted mean (soft voting); otherwise how much each member counts, to be shown.
    """

    weights: np.ndarray
    by_confidence: bool = False
    kernel: np.ndarray | None = (
        None  # [M, K, K] of stacking, from a member's log probabilities to logits
    )
    bias: np.ndarray | None = None  # [K]

    def __call__(self, members: np.ndarray) -> np.ndarray:
        """float64 [N, K]."""
        if self.kernel is not None:
            return softmax(_logits(_inputs(members), self.kernel, self.bias))
        if self.by_confidence:
            return (confidence_shares(members)[..., None] * members).sum(0)
        return np.tensordot(self.weights, np.asarray(members, np.float64), axes=1)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` needs beside the weights."""
        if self.kernel is None:
            return {"by_confidence": True} if self.by_confidence else {}
        return {"stacking": {"kernel": self.kernel.tolist(), "bias": self.bias.tolist()}}

    @classmethod
    def from_json(cls, weights: np.ndarray, found: Mapping[str, Any]) -> "Combination":
        layer = found.get("stacking")
        if layer:
            return cls(weights, kernel=np.array(layer["kernel"]), bias=np.array(layer["bias"]))
        return cls(weights, by_confidence=found.get("by_confidence", False))


def confidence_shares(members: np.ndarray) -> np.ndarray:
    """What each member counts for each image, [M, N]: its share of the confidences, the largest probabilities."""
    confidences = np.asarray(members, np.float64).max(-1)
    return confidences / confidences.sum(0)


def stacked(members: np.ndarray, labels: np.ndarray) -> Combination:
    """Stacking (Wolpert, 1992): a dense layer and a softmax on the log probabilities of all members.

    It is the likeliest one for the labels, but for a pull of STRENGTH towards the mean of the log probabilities, from
    which it starts: a convex problem. The weights are the members' shares of the kernel's absolute sum.
    """
    from scipy.optimize import minimize

    inputs = _inputs(members)
    count, examples, classes = inputs.shape
    start = np.broadcast_to(np.eye(classes) / count, (count, classes, classes))
    targets = np.eye(classes)[labels]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        kernel, bias = flat[:-classes].reshape(start.shape), flat[-classes:]
        log_p = log_softmax(_logits(inputs, kernel, bias))
        away = kernel - start
        value = -(targets * log_p).sum() / examples + STRENGTH * (away**2).sum() / 2
        error = (np.exp(log_p) - targets) / examples
        gradient = np.einsum("mni,nj->mij", inputs, error) + STRENGTH * away
        return value, np.concatenate([gradient.ravel(), error.sum(0)])

    first = np.concatenate([start.ravel(), np.zeros(classes)])
    flat = minimize(loss, first, jac=True, method="L-BFGS-B", options={"maxiter": 500}).x
    kernel, bias = flat[:-classes].reshape(start.shape), flat[-classes:]
    sizes = np.abs(kernel).sum((1, 2))
    return Combination(sizes / sizes.sum(), kernel=kernel, bias=bias)


def _inputs(members: np.ndarray) -> np.ndarray:
    """Log probabilities, which rounding does not touch."""
    return np.log(np.maximum(np.asarray(members, np.float64), LEAST))


def _logits(inputs: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return np.einsum("mni,mij->nj", inputs, kernel, optimize=True) + bias
