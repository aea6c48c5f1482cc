"""Writes a run's best model as files that JAX runs without this package, into RUN/export.

The folder has the program with its preprocessing and weights, the weights as safetensors, and a
model card.

  imgcls export runs/cifar_fast
"""

import argparse
import logging
from collections.abc import Sequence

from imgcls_jax.commands import runs

log = logging.getLogger(__name__)

add_arguments = runs.add_folders


def run(options: argparse.Namespace) -> None:
    export(options.folders)


def export(folders: Sequence[str]) -> None:
    """Exports each run. Raises RunError for a folder without a tested run."""
    from imgcls_jax import backend
    from imgcls_jax.evaluation import export as programs
    from imgcls_jax.reporting import model_card

    runs.require_folders(folders, "export runs/NAME")
    backend.configure()
    for run in runs.tested(folders):
        with run.locked():
            runs.require_tested(run)
            program = programs.write(run)
            card = model_card.write(run, program)
        log.info("%s", card)
