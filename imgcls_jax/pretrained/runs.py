"""The best model of a run as a source of weights."""

from pathlib import Path

import numpy as np

from imgcls_jax import trees
from imgcls_jax.models.lora import LoRA
from imgcls_jax.run.checkpoints import Checkpoints
from imgcls_jax.run.folder import CHECKPOINTS, RunFolder


def read(run: Path) -> dict[str, np.ndarray]:
    """Returns the variables of a run's best checkpoint by their paths ("params/fc/kernel").

    Low-rank pairs are merged into their kernels. Raises RunError if no checkpoint is complete.
    """
    checkpoints = Checkpoints(run / CHECKPOINTS, read_only=True)
    try:
        _, model = checkpoints.restore_best()
    finally:
        checkpoints.close()
    lora = LoRA.from_config(RunFolder(run).config)
    params = lora.merge(model["params"])
    model_state = model["model_state"] or {}
    return trees.flatten({"params": params, **model_state})
