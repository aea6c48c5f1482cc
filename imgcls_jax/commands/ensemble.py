"""Lets finished runs vote, and writes the ensemble's figures, predictions, table, picture and page."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from imgcls_jax.commands import runs

log = logging.getLogger(__name__)
FOLDER = "runs/ensemble"
WEIGHTS = "equal, fitted, greedy, confidence, stacked, or a number for each run as in 2,1 (default: %(default)s)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    runs.add_folders(parser, "folder of a finished run; two or more, on the same test images")
    parser.add_argument("--weights", default="equal", help=WEIGHTS)
    parser.add_argument(
        "--workdir", default=FOLDER, help="folder of the ensemble (default: %(default)s)"
    )


def run(options: argparse.Namespace) -> None:
    ensemble(options.folders, weights=options.weights, workdir=options.workdir)


def ensemble(
    folders: Sequence[str], *, weights: str = "equal", workdir: str | Path = FOLDER
) -> None:
    from imgcls_jax.errors import RunError
    from imgcls_jax.evaluation import calibration, predict
    from imgcls_jax.evaluation import ensemble as voting
    from imgcls_jax.reporting import ensemble as pages
    from imgcls_jax.run.folder import CONFIG, ENSEMBLE, REPORT, RunFolder

    members, run = [RunFolder(folder) for folder in folders], RunFolder(workdir)
    with run.locked():
        if (run.path / CONFIG).exists():
            raise RunError(f"{run.path} holds a run. Give the ensemble another --workdir.")
        voted, validation, summary = voting.vote(members, weights, run.path)
        splits = runs.data_of(next(runs.tested(folders)))
        predict.write(run, (voted, splits.test.labels), validation)
        if validation is not None:
            calibration.write(run)
        run.write_json(ENSEMBLE, summary)
        table = pages.write(run, members, splits.test)
    log.info("%s\n%s\n%s", table, "\n".join(pages.sentences(summary)), run.path / REPORT)
