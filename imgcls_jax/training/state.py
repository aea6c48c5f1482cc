"""What training carries from step to step, on the device and on the host."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from imgcls_jax.run.folder import RunFolder


class TrainState(struct.PyTreeNode):
    """The state on the device: all that a step reads and writes.

    params and model_state (batch statistics) are what the model needs; the rest is training's own. average is their
    running average {"params": ..., "model_state": ...}, or None where none is kept.
    """

    step: jnp.ndarray  # int32 []: optimizer steps done
    phase_start: jnp.ndarray  # int32 []: those done before this phase of the training
    params: Any
    model_state: Any
    opt_state: optax.OptState
    rate_scale: jnp.ndarray  # float32 []: what the plateau schedule has made of the rate so far
    average: dict[str, Any] | None = None

    @classmethod
    def start(
        cls, params: Any, model_state: Any, opt_state: optax.OptState, *, average: bool = False
    ) -> "TrainState":
        """The state before the first step, which keeps a running average where asked to."""
        return cls(
            step=jnp.zeros((), jnp.int32),
            phase_start=jnp.zeros((), jnp.int32),
            params=params,
            model_state=model_state,
            opt_state=opt_state,
            rate_scale=jnp.ones((), jnp.float32),
            average=start_average(params, model_state) if average else None,
        )

    @property
    def model(self) -> dict[str, Any]:
        """What is validated and kept: the running average where there is one."""
        return self.average or {"params": self.params, "model_state": self.model_state}

    def with_leaves(self, leaves: list[Any]) -> "TrainState":
        """A state like this with the leaves that `as_plain` gave."""
        return jax.tree.unflatten(jax.tree.structure(self), leaves)


def start_average(params: Any, model_state: Any) -> dict[str, Any]:
    """A running average that stands at these: copies, since a step takes the memory of all that the state has."""
    return jax.tree.map(jnp.copy, {"params": params, "model_state": model_state})


def as_trees(state: TrainState) -> tuple[dict[str, Any], dict[str, Any]]:
    """The state as the two trees of a checkpoint: the model that is kept, and what only training needs."""
    training = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    for name in ("average",) if state.average else ("average", *state.model):
        del training[name]
    return state.model, training


def trees_of_checkpoint(
    state: TrainState, saved: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same for a state like that of a checkpoint, of whose progress `saved` is: before there were phases it had no
    `phase_start`."""
    model, training = as_trees(state)
    if "phase" not in saved:
        del training["phase_start"]
    return model, training


def from_trees(state: TrainState, model: dict[str, Any], training: dict[str, Any]) -> TrainState:
    """A state like `state` with the content of the two trees of `as_trees`."""
    return state.replace(**training, **({"average": model} if state.average else model))


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
    stopped: bool = False  # the phase, by early stopping
    phase: int = 0  # which one is under way
    phase_epochs: int = 0  # done of it
    history: list[dict[str, Any]] = dataclasses.field(
        default_factory=list
    )  # the lines of metrics.jsonl

    @classmethod
    def of_checkpoint(cls, saved: dict[str, Any], run: RunFolder) -> "Progress":
        """What a checkpoint of the run saved, with what older versions did not save."""
        if "history" not in saved:
            lines = [line for line in run.history if line["epoch"] <= saved["epoch"]]
            saved["history"] = [line | {"phase": line.get("phase", 1)} for line in lines]
        return cls(**{"phase_epochs": saved["epoch"], **saved})


def as_plain(state: TrainState, progress: Progress) -> dict[str, Any]:
    """Both as lists, dicts, numbers and arrays, which can be sent to other processes."""
    return {"leaves": jax.tree.leaves(state), "progress": dataclasses.asdict(progress)}
