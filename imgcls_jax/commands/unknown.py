"""Lets a run say "I don't know": flags strange images, and gives sets of classes.

Fits on the run's validation images which images are so strange that their class is unknown, and
how large the set of classes of an image has to be to contain the true one as often as asked.
`imgcls predict` then adds to each line strangeness, unknown and classes, and the run's page shows
how well that works on its test images.

  imgcls unknown runs/quickstart
  imgcls unknown runs/cifar_fast --coverage 0.99 --false-alarms 0.01
"""

import argparse
import logging
from collections.abc import Sequence

from imgcls_jax.commands import runs

log = logging.getLogger(__name__)

COVERAGE = 0.95
FALSE_ALARMS = 0.05


def add_arguments(parser: argparse.ArgumentParser) -> None:
    runs.add_folders(parser)
    parser.add_argument(
        "--coverage",
        type=float,
        default=COVERAGE,
        metavar="SHARE",
        help="of images whose set contains their true class, at least (default: %(default)s)",
    )
    parser.add_argument(
        "--false-alarms",
        type=float,
        default=FALSE_ALARMS,
        metavar="SHARE",
        help="of images like the run's that are called unknown, at most (default: %(default)s)",
    )


def run(options: argparse.Namespace) -> None:
    unknown(options.folders, coverage=options.coverage, false_alarms=options.false_alarms)


def unknown(
    folders: Sequence[str], *, coverage: float = COVERAGE, false_alarms: float = FALSE_ALARMS
) -> None:
    """Fits unknown.json of each run, and writes its page again.

    coverage, false_alarms: as of `evaluation.unknown.fit`. Raises RunError if one of them is not
    between 0 and 1 or takes more validation images than a run has, and for a folder without a
    tested run.
    """
    from imgcls_jax import backend
    from imgcls_jax.evaluation import unknown as evaluation
    from imgcls_jax.reporting import unknown as reporting

    runs.require_folders(folders, "unknown runs/NAME")
    backend.configure()
    for run in runs.tested(folders):
        evaluation.check(run, coverage=coverage, false_alarms=false_alarms)
        with runs.locked_with_data(run) as splits:
            results = evaluation.fit(run, splits, coverage=coverage, false_alarms=false_alarms)
            runs.write_report(run, splits)
        log.info("%s: %s", run.path, reporting.sentences(results))
