"""What commands on run folders share."""

import argparse
import contextlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imgcls_jax.data import Splits
    from imgcls_jax.run.folder import RunFolder


def add_folders(parser: argparse.ArgumentParser, help: str = "folder of a finished run") -> None:
    """The argument `folders`: one or more."""
    parser.add_argument("folders", nargs="+", metavar="RUN", help=help)


def tested(folders: Iterable[str]) -> Iterator["RunFolder"]:
    """Each run. Raises RunError for one that has not got as far as its test figures."""
    from imgcls_jax.run.folder import RunFolder

    for run in map(RunFolder, folders):
        require_tested(run)
        yield run


def require_tested(run: "RunFolder") -> None:
    """Raises RunError, or ConfigError, where the folder holds no run that was tested."""
    from imgcls_jax.run.folder import TEST
    from imgcls_jax.training import checks as options

    run.read_json(TEST)
    options.of_run(run)


@contextlib.contextmanager
def locked_with_data(run: "RunFolder") -> Iterator["Splits"]:
    """The data of a run, which nobody else writes into meanwhile."""
    with run.locked():
        require_tested(run)  # again: it may be another one since it was looked at without the lock
        yield data_of(run)


def data_of(run: "RunFolder") -> "Splits":
    """The data that the run's config names. Raises RunError where that is no longer the run's."""
    from imgcls_jax import data
    from imgcls_jax.run import resuming

    splits = data.load(run.config.data, keep=False)
    resuming.check_data(run, splits)
    return splits


def write_report(run: "RunFolder", splits: "Splits", **options: Any) -> None:
    """Writes the run's page, with the predictions on validation and the calibration that it shows."""
    from imgcls_jax.evaluation import calibration, predict
    from imgcls_jax.reporting import run_report

    if run.validation_predictions is None:
        predict.add_validation(run, splits)
    calibration.write(run)
    run_report.write(run, train=splits.train, test=splits.test, **options)
