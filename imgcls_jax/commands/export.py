"""Writes a run's best model as files for JAX alone, and its model card, into RUN/export."""

import argparse
import logging
from collections.abc import Sequence

from imgcls_jax.commands import runs

log = logging.getLogger(__name__)
add_arguments = runs.add_folders


def run(options: argparse.Namespace) -> None:
    export(options.folders)


def export(folders: Sequence[str]) -> None:
    from imgcls_jax import backend
    from imgcls_jax.evaluation import export as programs
    from imgcls_jax.reporting import model_card

    backend.configure()
    for run in runs.tested(folders):
        with run.locked():
            runs.require_tested(run)
            log.info("%s", model_card.write(run, programs.write(run)))
