"""Losses per example, in float32."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

from imgcls_jax.models.batch_axis import batch_positions, gather_batch


def cross_entropy(logits, labels, *, smoothing: float = 0.0):
    """Returns the cross entropy [B] of logits [B, K] with labels int [B].

    smoothing: share of the target that is spread evenly over all classes.
    """
    logits = logits.astype(jnp.float32)
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
    return optax.softmax_cross_entropy(logits, targets)


@dataclasses.dataclass(frozen=True)
class LabelLoss:
    """Cross entropy with labels, and what changes it for unbalanced classes.

    smoothing: as of `cross_entropy`. focal_gamma: as of `focal_factor`; 0 for none. class_weights:
    [K], by which the losses of each class are multiplied. logit_offsets: [K], added to the logits
    (logit adjustment: Menon et al., 2021, arXiv:2007.07314, equation 10).
    """

    smoothing: float = 0.0
    focal_gamma: float = 0.0
    class_weights: np.ndarray | None = None
    logit_offsets: np.ndarray | None = None

    def __call__(self, logits, labels):
        """Returns the loss [B] of logits [B, K] with labels int [B]."""
        if self.logit_offsets is not None:
            logits = logits.astype(jnp.float32) + jnp.float32(self.logit_offsets)
        losses = cross_entropy(logits, labels, smoothing=self.smoothing)
        if self.focal_gamma:
            losses *= focal_factor(logits, labels, gamma=self.focal_gamma)
        if self.class_weights is not None:
            losses *= jnp.float32(self.class_weights)[labels]
        return losses


def focal_factor(logits, labels, *, gamma: float):
    """Returns (1 - p)^gamma [B], where p is the label's probability by logits [B, K].

    The focal loss (Lin et al., 2017, arXiv:1708.02002, equation 4) is cross entropy times this. What
    is nearly certain gets no smaller than 1e-7^gamma, which keeps its gradient finite.
    """
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    log_p = jnp.take_along_axis(log_p, labels[:, None], axis=-1)[:, 0]
    return jnp.maximum(-jnp.expm1(log_p), 1e-7) ** gamma


def divergence(teacher, logits, *, temperature: float):
    """Returns the Kullback-Leibler divergence [B] of softened probabilities, times temperature^2.

    teacher: logits or log probabilities [B, K]. logits: of the student [B, K]. The factor keeps the
    gradient as large at every temperature (Hinton et al., 2015, section 2).
    """
    log_teacher = jax.nn.log_softmax(teacher.astype(jnp.float32) / temperature)
    log_student = jax.nn.log_softmax(logits.astype(jnp.float32) / temperature)
    return temperature**2 * optax.losses.kl_divergence_with_log_targets(log_student, log_teacher)


def nt_xent(first, second, *, temperature: float):
    """Returns SimCLR's normalised temperature-scaled cross entropy [B] of two views' projections [B, D].

    A projection is compared with that of the same image's other view, and with those of all other
    images of the whole batch, over all devices; the mean of both directions (Chen et al., 2020,
    equation 1).
    """
    first = _unit_length(first)
    second = _unit_length(second)
    candidates = jnp.concatenate([gather_batch(first), gather_batch(second)])
    batch_size = len(candidates) // 2
    positions = batch_positions(len(first))
    itself = jnp.concatenate([positions, positions + batch_size])
    partner = jnp.concatenate([positions + batch_size, positions])
    similarity = jnp.concatenate([first, second]) @ candidates.T / temperature
    is_itself = jnp.arange(2 * batch_size) == itself[:, None]
    similarity = jnp.where(is_itself, -jnp.inf, similarity)
    losses = optax.softmax_cross_entropy_with_integer_labels(similarity, partner)
    return losses.reshape(2, -1).mean(0)


def _unit_length(vectors):
    return vectors / jnp.maximum(jnp.linalg.norm(vectors, axis=-1, keepdims=True), 1e-6)
