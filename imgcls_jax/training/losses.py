"""Losses per example, in float32."""

import jax
import jax.numpy as jnp
import optax

from imgcls_jax.models.batch_axis import batch_positions, gather_batch


def cross_entropy(logits, labels, *, smoothing: float = 0.0):
    """logits [B, K], labels int [B] -> [B]; the target has 1 - smoothing on its class, the rest on all."""
    logits = logits.astype(jnp.float32)
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
    return optax.softmax_cross_entropy(logits, targets)


def divergence(teacher, logits, *, temperature: float):
    """How far the student's softened probabilities are from the teacher's: Kullback and Leibler's, times temperature^2.

    teacher: logits or log probabilities [B, K]; logits: of the student [B, K] -> [B]. The factor keeps the gradient as
    large at every temperature (Hinton et al., 2015, section 2).
    """
    softened = (
        jax.nn.log_softmax(each.astype(jnp.float32) / temperature) for each in (logits, teacher)
    )
    return temperature**2 * optax.losses.kl_divergence_with_log_targets(*softened)


def nt_xent(one, other, *, temperature: float):
    """The normalised temperature-scaled cross entropy of SimCLR (Chen et al., 2020, equation 1): [B, D] twice -> [B].

    Each projection shall be more like that of the same image's other view than like those of all other images of the
    batch, over all devices; the mean of both directions.
    """
    one, other = (
        each / jnp.maximum(jnp.linalg.norm(each, axis=-1, keepdims=True), 1e-6)
        for each in (one, other)
    )
    everyone = jnp.concatenate([gather_batch(one), gather_batch(other)])
    whole, here = len(everyone) // 2, batch_positions(len(one))
    similar = jnp.concatenate([one, other]) @ everyone.T / temperature
    itself, partner = jnp.concatenate([here, here + whole]), jnp.concatenate([here + whole, here])
    similar = jnp.where(jnp.arange(2 * whole) == itself[:, None], -jnp.inf, similar)
    losses = optax.softmax_cross_entropy_with_integer_labels(similar, partner)
    return losses.reshape(2, -1).mean(0)
