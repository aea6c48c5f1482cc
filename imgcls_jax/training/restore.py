"""Where a run goes on: the state and the progress of its newest checkpoint."""

import logging
from collections.abc import Sequence
from typing import Any

from imgcls_jax.run.checkpoints import Checkpoints, shapes
from imgcls_jax.run.folder import RunFolder
from imgcls_jax.training import old_checkpoints
from imgcls_jax.training.state import Progress, TrainState, as_trees, from_trees

log = logging.getLogger(__name__)


def restore(
    checkpoints: Checkpoints, states: Sequence[TrainState], run: RunFolder
) -> tuple[TrainState, Progress] | None:
    """Returns what the newest whole checkpoint holds, or None if there is none.

    states: the state of each phase, of which only the shapes count.
    """

    def expected(progress: dict[str, Any]) -> dict[str, Any]:
        """Returns the trees of a checkpoint with this progress, as shapes; None for any shapes."""
        model, training = as_trees(states[progress.get("phase", 0)])
        if old_checkpoints.is_old(progress):
            return {"model": shapes(model), "training": None}
        return {"model": shapes(model), "training": shapes(training)}

    restored = checkpoints.restore(expected)
    if not restored:
        return None
    step, model, training, saved = restored
    progress = old_checkpoints.read_progress(saved, run)
    state = states[progress.phase]
    if old_checkpoints.is_old(saved):
        training = old_checkpoints.convert(state, training)
    log.info("Resuming %s at step %d, epoch %d.", run.path, step, progress.epoch + 1)
    return from_trees(state, model, training), progress
