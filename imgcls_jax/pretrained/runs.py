"""The best model of a run as a file of weights."""

from pathlib import Path

import numpy as np

from imgcls_jax import trees
from imgcls_jax.models import lora
from imgcls_jax.run.checkpoints import Checkpoints
from imgcls_jax.run.folder import CHECKPOINTS, RunFolder


def read(run: Path) -> dict[str, np.ndarray]:
    """The variables of the run's best checkpoint by their paths ("params/fc/kernel"), whatever its model is.

    Low-rank pairs are merged into their kernels.

    Raises RunError where there is no checkpoint that is whole.
    """
    checkpoints = Checkpoints(run / CHECKPOINTS, read_only=True)
    try:
        _, model = checkpoints.restore_best()
    finally:
        checkpoints.close()
    params = lora.of(RunFolder(run).config).merge(model["params"])
    return trees.flatten({"params": params, **(model["model_state"] or {})})
