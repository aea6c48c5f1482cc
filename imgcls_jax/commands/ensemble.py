"""Lets finished runs vote, and writes the ensemble's scores, predictions, table, picture and page.

The runs must have the same test images. Their probabilities are averaged, with equal weights unless
--weights says otherwise.

  imgcls ensemble runs/one runs/other --workdir runs/both
  imgcls ensemble runs/one runs/other --weights=2,1
  imgcls ensemble runs/one runs/other runs/third --weights=greedy
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from imgcls_jax.commands import runs

log = logging.getLogger(__name__)

FOLDER = "runs/ensemble"
WEIGHTS = (
    "equal; fitted or greedy, chosen on the validation set; confidence, by each member's largest "
    "probability; stacked, a layer learned on the validation set; or a number for each run, as "
    "in 2,1 (default: %(default)s)"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    runs.add_folders(parser, "folder of a finished run; two or more, on the same test images")
    parser.add_argument("--weights", default="equal", help=WEIGHTS)
    runs.add_workdir(parser, FOLDER, "folder of the ensemble")


def run(options: argparse.Namespace) -> None:
    ensemble(options.folders, weights=options.weights, workdir=options.workdir)


def ensemble(
    folders: Sequence[str], *, weights: str = "equal", workdir: str | Path = FOLDER
) -> None:
    """Writes the ensemble of the runs into `workdir`.

    Raises RunError if the runs are not finished or have other data, ConfigError for weights that
    cannot be used.
    """
    from imgcls_jax.errors import RunError
    from imgcls_jax.evaluation import calibration, predict
    from imgcls_jax.evaluation import ensemble as voting
    from imgcls_jax.reporting import ensemble as pages
    from imgcls_jax.run.folder import CONFIG, ENSEMBLE, REPORT, RunFolder

    runs.require_folders(folders, "ensemble runs/ONE runs/OTHER")
    members = [RunFolder(folder) for folder in folders]
    run = RunFolder(workdir)
    with run.locked():
        if (run.path / CONFIG).exists():
            raise RunError(f"{run.path} holds a run. Give the ensemble another --workdir.")
        probabilities, validation, summary = voting.vote(members, weights, run.path)
        splits = runs.data_of(next(runs.tested(folders)))
        predict.write_predictions(run, (probabilities, splits.test.labels), validation)
        calibration.remove(run)  # that of other members
        if validation is not None:
            calibration.write(run)
        run.write_json(ENSEMBLE, summary)
        table = pages.write(run, members, splits.test)
    sentences = "\n".join(pages.sentences(summary))
    log.info("%s\n%s\n%s", table, sentences, run.path / REPORT)
