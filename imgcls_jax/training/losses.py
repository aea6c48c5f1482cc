"""Losses per example."""

import jax.numpy as jnp
import optax


def cross_entropy(logits, labels, *, smoothing: float = 0.0):
    """logits [B, K], labels int [B] -> [B], in float32; the target has 1 - smoothing on its class, the rest on all."""
    logits = logits.astype(jnp.float32)
    targets = optax.smooth_labels(jnp.eye(logits.shape[-1])[labels], smoothing)
    return optax.softmax_cross_entropy(logits, targets)
