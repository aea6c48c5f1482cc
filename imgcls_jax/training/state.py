"""What training carries from step to step, on the device and on the host."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import optax
from flax import struct


class TrainState(struct.PyTreeNode):
    """The state on the device: all that a step reads and writes.

    params and model_state (batch statistics) are what the model needs; the rest is training's own.
    """

    step: jnp.ndarray  # int32 []: optimizer steps done
    params: Any
    model_state: Any
    opt_state: optax.OptState
    rate_scale: jnp.ndarray  # float32 []: what the plateau schedule has made of the rate so far


def as_trees(state: TrainState) -> tuple[dict[str, Any], dict[str, Any]]:
    """The state as the two trees of a checkpoint: what the model needs, and what only training does."""
    fields = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    model = {name: fields.pop(name) for name in ("params", "model_state")}
    return model, fields


@dataclasses.dataclass
class Progress:
    """The loop's own bookkeeping, saved with every checkpoint so that a resumed run takes the same decisions."""

    epoch: int = 0  # epochs done
    step_in_epoch: int = 0  # steps done of the epoch begun
    loss_sum: float = 0.0  # over the examples of the epoch begun
    correct: float = 0.0
    seconds: float = 0.0  # spent training in the epoch begun
    best: float | None = None  # best validation figure so far, and where
    best_epoch: int = 0
    best_step: int = 0
    stale_epochs: int = 0  # since the best
    plateau_epochs: int = 0  # since the best, or since the rate last fell
    stopped: bool = False  # by early stopping
