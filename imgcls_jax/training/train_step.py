"""One step of training, and one of evaluation, as functions of a state and a batch."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import clu.metrics
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from imgcls_jax import trees
from imgcls_jax.data.views import VIEWS, View
from imgcls_jax.training import metrics, optimizers, parallel
from imgcls_jax.training.adapt import EVERYTHING, Adaptation
from imgcls_jax.training.inputs import Batch
from imgcls_jax.training.objectives import LABELS, Labels
from imgcls_jax.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a training step is made of, and does not change while training.

    model: a Flax module. optimizer: an Optax transformation that ends in the learning rate.
    objective: what is learned from. adaptation: which parameters train. ema_decay: per step, of the
    average of the weights, where the state has one. method: of the model, from images (or from their
    features) to logits.
    """

    model: nn.Module
    optimizer: optax.GradientTransformation
    objective: Labels = LABELS
    adaptation: Adaptation = EVERYTHING
    ema_decay: float = 0.0
    method: str = "__call__"


def train_step(
    state: TrainState, batch: Batch, dropout_key: jax.Array, recipe: Recipe
) -> tuple[TrainState, clu.metrics.Collection]:
    """Takes one optimizer step; returns the new state, and the metrics of the batch of all devices."""
    trainable, frozen = recipe.adaptation.split(state.params)

    def loss_fn(trainable):
        params = recipe.adaptation.merge(trees.join(trainable, frozen))
        variables = {"params": params, **state.model_state}

        def apply(inputs, method):
            return recipe.adaptation.apply(
                recipe.model,
                variables,
                inputs,
                method=method,
                train=True,
                mutable=list(state.model_state),
                rngs={"dropout": dropout_key},
            )

        losses, logits, model_state = recipe.objective(apply, batch, recipe.method)
        return losses.mean(), (losses, logits, model_state)

    gradient = jax.grad(loss_fn, has_aux=True)

    def gradient_at(nearby, _):
        """Returns the gradient at other parameters, for which SAM asks."""
        grads, _ = gradient(nearby)
        return parallel.mean_gradients(grads)

    grads, (losses, logits, model_state) = gradient(trainable)
    grads, model_state = parallel.mean_gradients((grads, model_state))
    updates, opt_state = recipe.optimizer.update(
        grads, state.opt_state, trainable, grad_fn=gradient_at
    )
    trainable = optax.apply_updates(trainable, updates)
    state = state.replace(
        step=state.step + 1,
        params=trees.join(trainable, frozen),
        model_state=model_state,
        opt_state=opt_state,
    )
    if state.average:
        evaluated = optimizers.evaluation_params(opt_state, trainable)
        weights = {"params": trees.join(evaluated, frozen), "model_state": model_state}
        state = state.replace(average=update_average(state, weights, recipe.ema_decay))
    values = metrics.of_examples(logits, batch.labels) | {"loss": losses}
    return state, metrics.of_step(values)


def update_average(state: TrainState, weights: Any, ema_decay: float) -> Any:
    """Returns the exponential moving average after a step, of which `weights` are the new weights.

    Early on it forgets faster, so that the initial weights do not linger in it.
    """
    decay = jnp.minimum(ema_decay, state.step / (10.0 + state.step))
    return optax.incremental_update(weights, state.average, 1 - decay)


def eval_step(
    model: nn.Module,
    variables: Any,
    images: jax.Array,
    *,
    tta: Sequence[tuple[float, View]] = VIEWS["none"],
    method: str | Callable = "__call__",
) -> jax.Array:
    """Returns logits [B, K] of images float32 [B, H, W, C], or what another `method` gives, as float32.

    tta: views of an image and their weights, over which the logits are averaged.
    """
    total = 0.0
    for weight, view in tta:
        outputs = model.apply(variables, view(images), train=False, method=method)
        total = total + weight * outputs.astype(jnp.float32)
    return total
