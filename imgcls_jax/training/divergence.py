"""What is said of training that diverges: losses, in training or on validation, that are not finite."""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from imgcls_jax.errors import TrainingError
from imgcls_jax.training.state import Progress

log = logging.getLogger(__name__)

REMEDY = (
    "A lower --config.optimizer.learning_rate, --config.schedule.warmup_epochs=1 or --config.optimizer.clip_norm=1. "
    "would be the first things to try."
)


def at_step(loss: float, *, step: int, rate: float, progress: Progress) -> TrainingError:
    """The error of a step, counted from 0, whose loss is not finite."""
    last, best = progress.epoch, progress.best_epoch
    kept = "it had saved no checkpoint yet"
    if last:
        kept = "no epoch before had a validation loss that was finite"
    if best:
        kept = f"its best checkpoint is that of epoch {best}"
    return TrainingError(
        f"The loss is {loss} at step {step + 1} (epoch {last + 1}, learning rate {rate:.3g}): training stopped; "
        f"{kept}. {REMEDY}"
    )


def check_end(progress: Progress, history: Sequence[Mapping[str, Any]]) -> None:
    """Says at the end which epochs' validation was not finite; raises TrainingError where no epoch's was finite."""
    bad = [line["epoch"] for line in history if not math.isfinite(line["validation_loss"])]
    if not progress.best_epoch:
        raise TrainingError(
            f"Training diverged: after none of its {progress.epoch} epochs was the validation loss finite, so that "
            f"there is no best epoch and nothing to test. {REMEDY}"
        )
    if bad:
        log.warning(
            "After %d of %d epochs, the first of them epoch %d, the validation loss was not finite; the weights of "
            "epoch %d are kept. %s",
            len(bad),
            progress.epoch,
            bad[0],
            progress.best_epoch,
            REMEDY,
        )
