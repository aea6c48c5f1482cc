"""Writes the pages and pictures of finished runs again.

Training, `explain` and `robustness` write them too.

  imgcls report runs/quickstart
"""

import argparse
import logging
from collections.abc import Sequence

from imgcls_jax.commands import runs

log = logging.getLogger(__name__)

add_arguments = runs.add_folders


def run(options: argparse.Namespace) -> None:
    report(options.folders)


def report(folders: Sequence[str]) -> None:
    """Writes the page of each run. Raises RunError for a folder without a tested run."""
    from imgcls_jax import backend
    from imgcls_jax.run.folder import REPORT

    runs.require_folders(folders, "report runs/NAME")
    backend.configure()
    for run in runs.tested(folders):
        with runs.locked_with_data(run) as splits:
            runs.write_report(run, splits)
        log.info("%s", run.path / REPORT)
