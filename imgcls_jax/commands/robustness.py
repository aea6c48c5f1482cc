"""Measures accuracy under noise, blur, fog, JPEG and other corruptions of the test images.

Each corruption has five severities. Tables and plots go into the runs' folders and onto their
pages.

  imgcls robustness runs/cifar_fast
  imgcls robustness runs/cifar_fast --limit 1000
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
        help="take only N test images, drawn at random; 0 takes all (default: %(default)s)",
    )


def run(options: argparse.Namespace) -> None:
    robustness(options.folders, limit=options.limit)


def robustness(folders: Sequence[str], *, limit: int = 0) -> None:
    """Writes the accuracies of each run, and its page again.

    limit: number of test images, drawn at random; 0 for all. Raises RunError for a negative one and
    for a folder without a tested run.
    """
    from imgcls_jax import backend
    from imgcls_jax.errors import RunError
    from imgcls_jax.evaluation import robustness as evaluation
    from imgcls_jax.reporting import robustness as tables

    runs.require_folders(folders, "robustness runs/NAME")
    if limit < 0:
        raise RunError(f"--limit is {limit}. Give a number of images, or 0 for all.")
    backend.configure()
    for run in runs.tested(folders):
        with runs.locked_with_data(run) as splits:
            accuracies = evaluation.evaluate(run, splits.test, limit=limit)
            table = tables.write(run, accuracies)
            runs.write_report(run, splits)
        log.info("\n%s\n%s\n%s", run.path, table, run.path / "robustness.png")
