"""Checkpoints of versions before 0.2, as today's state and progress.

The optimizer had no learning rate: the state had the factor of the plateau schedule (`rate_scale`) and
the step at which the phase had begun (`phase_start`) beside it. The progress had sums of two metrics.
"""

import math
from typing import Any

import jax
import numpy as np
import optax

from imgcls_jax.run.folder import RunFolder
from imgcls_jax.training.metrics import METRICS
from imgcls_jax.training.optimizers import set_plateau_factor
from imgcls_jax.training.state import Progress, TrainState, as_trees


def is_old(progress: dict[str, Any]) -> bool:
    """Returns whether an older version saved this progress."""
    return "sums" not in progress


def read_progress(saved: dict[str, Any], run: RunFolder) -> Progress:
    """Returns the progress that any version saved."""
    if not is_old(saved):
        return Progress(**saved)
    progress = dict(saved)
    loss_sum = progress.pop("loss_sum")
    correct = progress.pop("correct")
    if saved["step_in_epoch"]:
        # The other metrics of the epoch under way are not known.
        progress["sums"] = dict.fromkeys(METRICS, math.nan) | {
            "loss": loss_sum,
            "accuracy": correct,
        }
    progress.setdefault("phase_epochs", saved["epoch"])  # before there were phases
    if "history" not in progress:
        lines = [line for line in run.history if line["epoch"] <= saved["epoch"]]
        progress["history"] = [line | {"phase": line.get("phase", 1)} for line in lines]
    return Progress(**progress)


def convert(state: TrainState, training: dict[str, Any]) -> dict[str, Any]:
    """Returns the training tree of an older checkpoint as that of today's `state`.

    training: as it was saved. The leaves of its optimizer are today's without what follows the
    optimizer: the count of the schedule, and the factor of a plateau.
    """
    _, expected = as_trees(state)
    phase_start = training.get("phase_start", 0)
    count = np.asarray(training["step"] - phase_start, np.int32)
    opt_state = expected["opt_state"]
    old_leaves = jax.tree.leaves(training["opt_state"])
    new_leaves = jax.tree.leaves(opt_state)
    later = [count] * (len(new_leaves) - len(old_leaves))
    opt_state = jax.tree.unflatten(jax.tree.structure(opt_state), [*old_leaves, *later])
    if optax.tree.get(expected["opt_state"], "step_size") is not None:
        factor = np.asarray(training["rate_scale"], np.float32)
        opt_state = set_plateau_factor(opt_state, factor)
    converted = {name: training[name] for name in expected if name != "opt_state"}
    return converted | {"opt_state": opt_state}
