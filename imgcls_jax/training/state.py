"""What training carries from step to step: the state on the devices, and the loop's progress."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct


class TrainState(struct.PyTreeNode):
    """The state on the device: all that a step reads and writes.

    params and model_state (batch statistics) are what the model needs. average: weights that are
    validated and kept in their place, {"params": ..., "model_state": ...}, such as an exponential
    moving average; None without one.
    """

    step: jnp.ndarray  # int32 []: optimizer steps done
    params: Any
    model_state: Any
    opt_state: optax.OptState
    average: dict[str, Any] | None = None

    @classmethod
    def create(
        cls, params: Any, model_state: Any, opt_state: optax.OptState, *, has_average: bool = False
    ) -> "TrainState":
        """Returns the state before the first step."""
        return cls(
            step=jnp.zeros((), jnp.int32),
            params=params,
            model_state=model_state,
            opt_state=opt_state,
            average=start_average(params, model_state) if has_average else None,
        )

    @property
    def model(self) -> dict[str, Any]:
        """What is validated and kept: the average, if there is one."""
        return self.average or {"params": self.params, "model_state": self.model_state}

    @property
    def variables(self) -> dict[str, Any]:
        """The same as `predict` takes it, and a Flax module."""
        return {"params": self.model["params"], **self.model["model_state"]}

    def with_leaves(self, leaves: list[Any]) -> "TrainState":
        """Returns a state like this with the leaves that `as_plain` gave."""
        return jax.tree.unflatten(jax.tree.structure(self), leaves)


def start_average(params: Any, model_state: Any) -> dict[str, Any]:
    """Returns an average that starts at these weights.

    They are copied, since a step takes the memory of all that the state has.
    """
    return jax.tree.map(jnp.copy, {"params": params, "model_state": model_state})


def as_trees(state: TrainState) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the two trees of a checkpoint: the model that is kept, and the rest of the state."""
    training = {"step": state.step, "opt_state": state.opt_state}
    if state.average:
        training |= {"params": state.params, "model_state": state.model_state}
    return state.model, training


def from_trees(state: TrainState, model: dict[str, Any], training: dict[str, Any]) -> TrainState:
    """Returns a state like `state` with the contents of the trees of `as_trees`."""
    kept = {"average": model} if state.average else model
    return state.replace(**training, **kept)


@dataclasses.dataclass
class Progress:
    """The loop's own bookkeeping, saved with every checkpoint so that a resumed run decides the same."""

    epoch: int = 0  # epochs done
    step_in_epoch: int = 0  # steps done of the epoch under way
    sums: dict[str, float] = dataclasses.field(default_factory=dict)  # of its metrics, by name
    seconds: float = 0.0  # spent training in it
    best: float | None = None  # best validation figure so far, the lower the better
    best_epoch: int = 0
    best_step: int = 0
    stale_epochs: int = 0  # since the best
    plateau_epochs: int = 0  # since the best, or since the rate last fell
    stopped: bool = False  # the phase, by early stopping
    phase: int = 0  # which one is under way
    phase_epochs: int = 0  # done of it
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)  # of metrics.jsonl

    def add(self, totals: dict[str, Any], *, seconds: float) -> None:
        """Counts the steps of a dispatch, as `metrics.totals` gives them.

        Sums are taken step by step: their rounding must not depend on how many steps a dispatch has.
        """
        for name, values in totals.items():
            for value in values:
                self.sums[name] = self.sums.get(name, 0.0) + float(value)
        self.step_in_epoch += len(totals["loss"])
        self.seconds += seconds

    def means(self, batch_size: int) -> dict[str, float]:
        """Returns the metrics of the epoch so far, without those that an older version did not sum."""
        examples = self.step_in_epoch * batch_size
        return {name: sum / examples for name, sum in self.sums.items() if math.isfinite(sum)}

    def end_epoch(self, figure: float, *, step: int, patience: int) -> bool:
        """Counts an epoch with this validation figure; returns whether it is the best so far.

        figure: the lower the better; one that is not finite is never the best. patience: epochs
        without improvement that end the phase; 0 for none.
        """
        self.epoch += 1
        self.phase_epochs += 1
        improved = math.isfinite(figure) and (self.best is None or figure < self.best)
        if improved:
            self.best = figure
            self.best_epoch = self.epoch
            self.best_step = step
            self.stale_epochs = self.plateau_epochs = 0
        else:
            self.stale_epochs += 1
            self.plateau_epochs += 1
        self.stopped = 0 < patience <= self.stale_epochs
        self.step_in_epoch = 0
        self.sums = {}
        self.seconds = 0.0
        return improved

    def begin_phase(self) -> None:
        """Goes on to the next phase, with new patience."""
        self.phase += 1
        self.phase_epochs = self.stale_epochs = self.plateau_epochs = 0
        self.stopped = False


def as_plain(state: TrainState, progress: Progress) -> dict[str, Any]:
    """Returns both as lists, dicts, numbers and arrays, which can be sent to other processes."""
    return {"leaves": jax.tree.leaves(state), "progress": dataclasses.asdict(progress)}
