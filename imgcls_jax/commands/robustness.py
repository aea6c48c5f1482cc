"""Accuracy under noise, blur, fog, JPEG and other corruptions of the test images.

Writes tables and plots into the folders of finished runs, and their pages again.
"""

import argparse
import logging
from collections.abc import Sequence

from imgcls_jax.commands import runs

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    runs.add_folders(parser)
    parser.add_argument(
        "--limit",
        type=int,
        default=0,
        metavar="N",
        help="only the first N test images; 0 takes all",
    )


def run(options: argparse.Namespace) -> None:
    robustness(options.folders, limit=options.limit)


def robustness(folders: Sequence[str], *, limit: int = 0) -> None:
    """limit: only so many of the first test images; 0 takes all."""
    from imgcls_jax import backend
    from imgcls_jax.errors import RunError
    from imgcls_jax.evaluation import robustness as evaluation
    from imgcls_jax.reporting import robustness as tables

    if limit < 0:
        raise RunError(f"--limit is {limit}: give a number of images, or 0 for all.")
    backend.configure()
    for run in runs.tested(folders):
        with runs.locked_with_data(run) as splits:
            table = tables.write(run, evaluation.evaluate(run, splits.test, limit=limit))
            runs.write_report(run, splits)
        log.info("\n%s\n%s\n%s", run.path, table, run.path / "robustness.png")
