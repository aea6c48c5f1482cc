"""Training that diverges: losses, in training or on validation, that are not finite."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from imgcls_jax.errors import TrainingError
from imgcls_jax.training.state import Progress

log = logging.getLogger(__name__)

REMEDY = (
    "A lower --config.optimizer.learning_rate, --config.schedule.warmup_epochs=1 or "
    "--config.optimizer.clip_norm=1. would be the first things to try."
)


def check_steps(
    losses: np.ndarray, *, first_step: int, rate: Callable[[int], float], progress: Progress
) -> None:
    """Raises TrainingError for the first step of a dispatch whose loss is not finite.

    losses: [count]. first_step: steps done before them. rate: the learning rate of the i-th of them.
    """
    bad = np.flatnonzero(~np.isfinite(losses))
    if bad.size:
        i = int(bad[0])
        raise _at_step(losses[i], step=first_step + i, rate=rate(i), progress=progress)


def _at_step(loss: float, *, step: int, rate: float, progress: Progress) -> TrainingError:
    """Returns the error of a step, counted from 0, whose loss is not finite."""
    last = progress.epoch
    best = progress.best_epoch
    kept = "it had saved no checkpoint yet"
    if last:
        kept = "no epoch before had a validation loss that was finite"
    if best:
        kept = f"its best checkpoint is that of epoch {best}"
    return TrainingError(
        f"The loss is {loss} at step {step + 1} (epoch {last + 1}, learning rate {rate:.3g}): "
        f"training stopped; {kept}. {REMEDY}"
    )


def check_end(progress: Progress, history: Sequence[Mapping[str, Any]]) -> None:
    """Warns at the end of epochs whose validation loss was not finite.

    Raises TrainingError if no epoch's was finite.
    """
    bad = [line["epoch"] for line in history if not math.isfinite(line["validation_loss"])]
    if not progress.best_epoch:
        raise TrainingError(
            f"Training diverged: after none of its {progress.epoch} epochs was the validation loss "
            f"finite, so that there is no best epoch and nothing to test. {REMEDY}"
        )
    if bad:
        log.warning(
            "After %d of %d epochs, the first of them epoch %d, the validation loss was not finite; "
            "the weights of epoch %d are kept. %s",
            len(bad),
            progress.epoch,
            bad[0],
            progress.best_epoch,
            REMEDY,
        )
