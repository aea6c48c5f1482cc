"""The loss that a config asks for, with what helps against unbalanced classes.

Weights and logit adjustment are computed of the shares that the classes have among the examples of an
epoch, which balanced sampling changes, and the adjustment of those that the weights give: what one of
them has balanced is not balanced again. The loss of validation and test is never changed.
"""

import dataclasses
import math

import numpy as np
from ml_collections import ConfigDict

from imgcls_jax.data.batches import sampled_shares
from imgcls_jax.data.dataset import Dataset
from imgcls_jax.errors import ConfigError, did_you_mean, listed
from imgcls_jax.training.losses import LabelLoss

BALANCED = "balanced"


def label_loss(config: ConfigDict, train: Dataset | None = None) -> LabelLoss:
    """Returns the loss of a run's config.

    train: the training set; without one what depends on its classes is left out. Raises ConfigError
    for class weights that cannot be read, and for those of classes that are not in the data.
    """
    settings = config.train
    weights = parse_weights(settings.class_weights)
    sampling = settings.balanced_sampling
    loss = LabelLoss(smoothing=settings.label_smoothing, focal_gamma=settings.focal_gamma)
    if train is None:
        return loss
    counts = np.bincount(train.labels, minlength=len(train.class_names))
    shares = sampled_shares(counts, sampling)
    if settings.class_weights == BALANCED:
        loss = dataclasses.replace(loss, class_weights=balanced_weights(shares))
    elif weights:
        loss = dataclasses.replace(loss, class_weights=_by_class(weights, train.class_names))
    if settings.logit_adjustment:
        if loss.class_weights is not None:
            shares = shares * loss.class_weights  # what is weighted counts for so many more
            shares = shares / shares.sum()
        smallest = shares[shares > 0].min()  # of a class without images the logarithm is infinite
        log_shares = np.log(np.maximum(shares, smallest))
        loss = dataclasses.replace(loss, logit_offsets=settings.logit_adjustment * log_shares)
    return loss


def balanced_weights(shares: np.ndarray) -> np.ndarray:
    """Returns weights float64 [K] with which each class counts equally, and whose mean is 1.

    shares: float64 [K], of the classes among the examples. The mean is that over the examples. A
    class without examples has the weight 0.
    """
    has_examples = shares > 0
    weights = np.zeros(len(shares))
    weights[has_examples] = 1 / (has_examples.sum() * shares[has_examples])
    return weights


def parse_weights(text: str) -> dict[str, float]:
    """Returns the weights of classes in `config.train.class_weights`, such as "cat=2|dog=0.5".

    Empty for "" and "balanced". Raises ConfigError for another text.
    """
    weights: dict[str, float] = {}
    if text in ("", BALANCED):
        return weights
    for part in text.split("|"):
        name, _, number = part.rpartition("=")
        weight = _to_float(number)
        if not name or name in weights or not 0 <= weight < math.inf:
            raise ConfigError(
                f"train.class_weights has {part!r}: give {BALANCED!r}, or each class once with a weight "
                'of 0 or more, as in "cat=2|dog=0.5".'
            )
        weights[name] = weight
    return weights


def _to_float(text: str) -> float:
    """Returns the number in a text, NaN if it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _by_class(weights: dict[str, float], class_names: tuple[str, ...]) -> np.ndarray:
    """Returns the weight of each class, float64 [K]; 1 for those not named."""
    for name in weights:
        if name not in class_names:
            hint = did_you_mean(name, class_names)
            raise ConfigError(
                f"train.class_weights names the class {name!r}, which is not in the data. Its classes: "
                f"{listed(class_names)}.{hint}"
            )
    return np.array([weights.get(name, 1.0) for name in class_names])
