"""Optimizers: a table of Optax' own, each with its learning rate, and what may surround them."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from imgcls_jax import trees
from imgcls_jax.errors import choose

Optimizer = optax.GradientTransformation
PLATEAU_FACTOR = "step_size"  # the injected hyperparameter of `optax.scale`


def adam(config: ConfigDict, rate: optax.Schedule) -> Optimizer:
    return optax.chain(_l2(config), optax.adam(rate, config.beta1, config.beta2, config.eps))


def adamw(config: ConfigDict, rate: optax.Schedule) -> Optimizer:
    decay = _decay(config)
    return optax.adamw(rate, config.beta1, config.beta2, config.eps, **decay)


def sgd(config: ConfigDict, rate: optax.Schedule) -> Optimizer:
    momentum = config.momentum or None
    nesterov = bool(momentum) and config.nesterov
    return optax.chain(_l2(config), optax.sgd(rate, momentum, nesterov))


def rmsprop(config: ConfigDict, rate: optax.Schedule) -> Optimizer:
    scale = optax.rmsprop(rate, config.beta2, config.eps, eps_in_sqrt=False)
    return optax.chain(_l2(config), scale)


def adagrad(config: ConfigDict, rate: optax.Schedule) -> Optimizer:
    scale = optax.adagrad(rate, initial_accumulator_value=0.0, eps=config.eps**2)
    return optax.chain(_l2(config), scale)


def lion(config: ConfigDict, rate: optax.Schedule) -> Optimizer:
    return optax.lion(rate, config.beta1, config.beta2, **_decay(config))


def muon(config: ConfigDict, rate: optax.Schedule) -> Optimizer:
    """Muon (Jordan et al., 2024) for kernels, as matrices of inputs and outputs; Adam for the rest."""
    return optax.contrib.muon(
        rate,
        beta=config.momentum or 0.95,
        weight_decay=config.weight_decay,
        adam_b1=config.beta1,
        adam_b2=config.beta2,
        adam_weight_decay=config.weight_decay,
        muon_weight_dimension_numbers=_kernel_dimensions,
    )


def _kernel_dimensions(params: Any) -> Any:
    """Says of each kernel [..., inputs, outputs] which axes are inputs and outputs; None of the rest."""

    def dimensions(leaf):
        if leaf.ndim < 2:
            return None
        inputs = tuple(range(leaf.ndim - 1))
        return optax.contrib.MuonDimensionNumbers(inputs, (leaf.ndim - 1,))

    return jax.tree.map(dimensions, params)


def schedule_free_adamw(config: ConfigDict, rate: optax.Schedule) -> Optimizer:
    """Schedule-free AdamW (Defazio et al., 2024): what is validated is an average of the weights."""
    base = optax.adamw(rate, 0.0, config.beta2, config.eps, **_decay(config))
    return optax.contrib.schedule_free(base, rate, b1=config.beta1)


def sam(config: ConfigDict, rate: optax.Schedule) -> Optimizer:
    """SGD with sharpness-aware minimization (Foret et al., 2021): two gradients a step.

    The second one is that of the step, and is clipped.
    """
    ascent = optax.chain(optax.contrib.normalize(), optax.sgd(config.rho))
    descent = optax.chain(*_clips(config), sgd(config, rate))
    return optax.contrib.sam(descent, ascent, sync_period=2, opaque_mode=True)


OPTIMIZERS: dict[str, Callable[[ConfigDict, optax.Schedule], Optimizer]] = {
    "adam": adam,
    "adamw": adamw,
    "sgd": sgd,
    "rmsprop": rmsprop,
    "adagrad": adagrad,
    "lion": lion,
    "muon": muon,
    "schedule_free_adamw": schedule_free_adamw,
    "sam": sam,
}


def create(config: ConfigDict, rate: optax.Schedule, *, has_plateau: bool = False) -> Optimizer:
    """Returns the optimizer of `config.optimizer`: gradients are clipped first, as in PyTorch.

    rate: the learning rate by steps. has_plateau: whether the updates have a further factor, which
    `set_plateau_factor` changes from outside.

    Raises ConfigError if there is no optimizer of that name.
    """
    build = choose("optimizer", config.name, OPTIMIZERS)
    parts = [build(config, rate)]
    if config.name != "sam":  # which clips the second of its gradients
        parts = [*_clips(config), *parts]
    if config.multipliers:
        parts.append(_multiply(config.multipliers))
    if has_plateau:
        parts.append(optax.inject_hyperparams(optax.scale)(**{PLATEAU_FACTOR: 1.0}))
    return optax.with_extra_args_support(optax.chain(*parts))


def _clips(config: ConfigDict) -> list[Optimizer]:
    """Returns what clips gradients, if anything does."""
    clips = []
    if config.clip_value:
        clips.append(optax.clip(config.clip_value))
    if config.clip_norm:
        clips.append(optax.clip_by_global_norm(config.clip_norm))
    return clips


def plateau_factor(opt_state: optax.OptState) -> jax.Array:
    """Returns the factor of the plateau schedule on the learning rate."""
    return optax.tree.get(opt_state, PLATEAU_FACTOR)


def set_plateau_factor(opt_state: optax.OptState, factor: jax.Array) -> optax.OptState:
    """Returns the state with another factor on the learning rate."""
    return optax.tree.set(opt_state, **{PLATEAU_FACTOR: factor})


def averages(config: ConfigDict) -> bool:
    """Returns whether the optimizer validates other weights than it takes gradients at."""
    return config.name == "schedule_free_adamw"


def evaluation_params(opt_state: optax.OptState, params: Any) -> Any:
    """Returns the parameters to validate: an average that a schedule-free optimizer has, or `params`."""

    def is_schedule_free(state: Any) -> bool:
        return isinstance(state, optax.contrib.ScheduleFreeState)

    for state in jax.tree.leaves(opt_state, is_leaf=is_schedule_free):
        if is_schedule_free(state):
            return optax.contrib.schedule_free_eval_params(state, params)
    return params


def _decay(config: ConfigDict) -> dict[str, Any]:
    """Returns the arguments of Optax for decay that is decoupled from the gradient."""
    return {"weight_decay": config.weight_decay, "mask": _decay_mask(config)}


def _l2(config: ConfigDict) -> Optimizer:
    """Adds weight_decay times the weights to the gradient."""
    if not config.weight_decay:
        return optax.identity()
    return optax.add_decayed_weights(config.weight_decay, _decay_mask(config))


def _decay_mask(config: ConfigDict) -> Callable | None:
    """Says what decays: all, or kernels alone."""
    if not config.weight_decay or config.decay_vectors:
        return None
    return lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def _multiply(multipliers: Sequence[tuple[str, float]]) -> Optimizer:
    """Multiplies the update of each parameter by the factor of the first pattern found in its path.

    `init` raises ConfigError for a pattern that is found in no path.
    """

    def factor(path: str) -> float:
        for pattern, value in multipliers:
            if re.search(pattern, path):
                return value
        return 1.0

    def init(params):
        patterns = [pattern for pattern, _ in multipliers]
        trees.matching("optimizer.multipliers", patterns, trees.flatten(params))
        return optax.EmptyState()

    def update(updates, state, params=None):
        scaled = [value * factor(path) for path, value in trees.flatten(updates).items()]
        return jax.tree.unflatten(jax.tree.structure(updates), scaled), state

    return optax.GradientTransformation(init, update)
