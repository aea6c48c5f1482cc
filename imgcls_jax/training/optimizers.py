"""Optimizers as Optax transformations that give the update's direction; the step multiplies it by the rate."""

import optax
from ml_collections import ConfigDict

from imgcls_jax.errors import ConfigError, choose


def adam(config: ConfigDict) -> optax.GradientTransformation:
    return optax.chain(_l2(config), optax.scale_by_adam(config.beta1, config.beta2, config.eps))


def adamw(config: ConfigDict) -> optax.GradientTransformation:
    return optax.chain(
        optax.scale_by_adam(config.beta1, config.beta2, config.eps), optax.add_decayed_weights(config.weight_decay)
    )


def sgd(config: ConfigDict) -> optax.GradientTransformation:
    return _l2(config)


def momentum(config: ConfigDict) -> optax.GradientTransformation:
    return optax.chain(_l2(config), optax.trace(config.momentum, config.nesterov))


def _l2(config: ConfigDict) -> optax.GradientTransformation:
    return optax.add_decayed_weights(config.weight_decay) if config.weight_decay else optax.identity()


OPTIMIZERS = {"adam": adam, "adamw": adamw, "sgd": sgd, "momentum": momentum}


def create(config: ConfigDict) -> optax.GradientTransformation:
    """The optimizer of `config.optimizer`: gradients are clipped first, as in PyTorch.

    Raises ConfigError for an unknown name or a figure that cannot be.
    """
    build = choose("optimizer", config.name, OPTIMIZERS)
    for key in ("learning_rate", "weight_decay", "clip_norm", "clip_value", "eps"):
        if not config[key] >= 0:
            raise ConfigError(f"optimizer.{key} is {config[key]}: it must be 0 or more.")
    for key in ("momentum", "beta1", "beta2"):
        if not 0 <= config[key] < 1:
            raise ConfigError(f"optimizer.{key} is {config[key]}: it must be at least 0 and below 1.")
    clips = []
    if config.clip_value:
        clips.append(optax.clip(config.clip_value))
    if config.clip_norm:
        clips.append(optax.clip_by_global_norm(config.clip_norm))
    return optax.chain(*clips, build(config))
