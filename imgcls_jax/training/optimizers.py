"""Optimizers as Optax transformations that give the update's direction; the step multiplies it by the rate."""

import re
from collections.abc import Sequence

import jax
import optax
from ml_collections import ConfigDict

from imgcls_jax import trees
from imgcls_jax.errors import choose


def adam(config: ConfigDict) -> optax.GradientTransformation:
    return optax.chain(_l2(config), optax.scale_by_adam(config.beta1, config.beta2, config.eps))


def adamw(config: ConfigDict) -> optax.GradientTransformation:
    return optax.chain(optax.scale_by_adam(config.beta1, config.beta2, config.eps), _l2(config))


def sgd(config: ConfigDict) -> optax.GradientTransformation:
    return _l2(config)


def momentum(config: ConfigDict) -> optax.GradientTransformation:
    return optax.chain(_l2(config), optax.trace(config.momentum, config.nesterov))


def rmsprop(config: ConfigDict) -> optax.GradientTransformation:
    return optax.chain(_l2(config), optax.scale_by_rms(config.beta2, config.eps, eps_in_sqrt=False))


def adagrad(config: ConfigDict) -> optax.GradientTransformation:
    return optax.chain(
        _l2(config), optax.scale_by_rss(initial_accumulator_value=0.0, eps=config.eps**2)
    )


def _l2(config: ConfigDict) -> optax.GradientTransformation:
    """Adds weight_decay times the weights; where decay_vectors is off, only those of kernels."""
    if not config.weight_decay:
        return optax.identity()
    mask = (
        None
        if config.decay_vectors
        else lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params)
    )
    return optax.add_decayed_weights(config.weight_decay, mask)


def _multiply(multipliers: Sequence[tuple[str, float]]) -> optax.GradientTransformation:
    """Multiplies the update of each parameter by the factor of the first pattern that is found in its path.

    `init` raises ConfigError for a pattern that is found in none.
    """

    def factor(path: str) -> float:
        return next((factor for pattern, factor in multipliers if re.search(pattern, path)), 1.0)

    def init(params):
        trees.matching(
            "optimizer.multipliers", [pattern for pattern, _ in multipliers], trees.flatten(params)
        )
        return optax.EmptyState()

    def update(updates, state, params=None):
        flat = trees.flatten(updates)
        scaled = [update * factor(path) for path, update in flat.items()]
        return jax.tree.unflatten(jax.tree.structure(updates), scaled), state

    return optax.GradientTransformation(init, update)


OPTIMIZERS = {
    "adam": adam,
    "adamw": adamw,
    "sgd": sgd,
    "momentum": momentum,
    "rmsprop": rmsprop,
    "adagrad": adagrad,
}


def create(config: ConfigDict) -> optax.GradientTransformation:
    """The optimizer of `config.optimizer`: gradients are clipped first, as in PyTorch.

    Raises ConfigError for an unknown name.
    """
    build = choose("optimizer", config.name, OPTIMIZERS)
    clips = []
    if config.clip_value:
        clips.append(optax.clip(config.clip_value))
    if config.clip_norm:
        clips.append(optax.clip_by_global_norm(config.clip_norm))
    multipliers = [_multiply(config.multipliers)] if config.multipliers else []
    return optax.chain(*clips, build(config), *multipliers)
