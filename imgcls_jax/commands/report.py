"""Writes the pages and pictures of finished runs again."""

import argparse
import logging
from collections.abc import Sequence

from imgcls_jax.commands import runs

log = logging.getLogger(__name__)
add_arguments = runs.add_folders


def run(options: argparse.Namespace) -> None:
    report(options.folders)


def report(folders: Sequence[str]) -> None:
    from imgcls_jax import backend
    from imgcls_jax.run.folder import REPORT

    backend.configure()
    for run in runs.tested(folders):
        with runs.locked_with_data(run) as splits:
            runs.write_report(run, splits)
        log.info("%s", run.path / REPORT)
