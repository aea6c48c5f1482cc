"""Losses per example, in float32."""

import jax
import jax.numpy as jnp
import optax

from imgcls_jax.models.batch_axis import batch_positions, gather_batch


def cross_entropy(logits, labels, *, smoothing: float = 0.0):
    """Returns the cross entropy [B] of logits [B, K] with labels int [B].

    smoothing: share of the target that is spread evenly over all classes.
    """
    logits = logits.astype(jnp.float32)
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
    return optax.softmax_cross_entropy(logits, targets)


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
