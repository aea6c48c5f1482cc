"""What commands on run folders share."""

import argparse
import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from imgcls_jax.errors import RunError

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from imgcls_jax.data import Splits
    from imgcls_jax.run.folder import RunFolder


def add_folders(parser: argparse.ArgumentParser, help: str = "folder of a finished run") -> None:
    """Adds the argument `folders`: one or more."""
    parser.add_argument("folders", nargs="+", metavar="RUN", help=help)


def add_workdir(parser: argparse.ArgumentParser, default: str, help: str) -> None:
    """Adds the option `--workdir`."""
    parser.add_argument(
        "--workdir", default=default, metavar="FOLDER", help=f"{help} (default: %(default)s)"
    )


def require_folders(folders: Sequence[str], example: str) -> None:
    """Raises RunError if there are no folders, with an example of a command that has some."""
    if not folders:
        raise RunError(f"No folders are given. For example: python -m imgcls_jax {example}")


def tested(folders: Iterable[str]) -> Iterator["RunFolder"]:
    """Yields the run of each folder. Raises RunError for a folder without a tested run."""
    from imgcls_jax.run.folder import RunFolder

    for folder in folders:
        run = RunFolder(folder)
        require_tested(run)
        yield run


def require_tested(run: "RunFolder") -> None:
    """Raises RunError if the folder holds no run that has been tested."""
    from imgcls_jax.run.folder import TEST
    from imgcls_jax.training import checks

    run.read_json(TEST)
    checks.of_run(run)


@contextlib.contextmanager
def locked_with_data(run: "RunFolder") -> Iterator["Splits"]:
    """Locks a tested run against other writers, and yields its data."""
    with run.locked():
        require_tested(run)  # Again: it may have changed before this process had the lock.
        yield data_of(run)


def data_of(run: "RunFolder") -> "Splits":
    """Returns the data that the run's config names. Raises RunError if it is no longer the same."""
    from imgcls_jax import data
    from imgcls_jax.run import resuming

    splits = data.load(data_config(run), quick=run.config.quick, keep=False)
    resuming.check_data(run, splits)
    return splits


def data_config(run: "RunFolder") -> "ConfigDict":
    """Returns the run's `config.data`, with the corrections that its folder has a copy of."""
    from imgcls_jax.run.folder import CORRECTIONS

    config = run.config.data
    copy = run.path / CORRECTIONS
    if config.corrections and copy.exists():
        config.corrections = str(copy)
    return config


def write_report(
    run: "RunFolder",
    splits: "Splits",
    *,
    before_page: Callable[["RunFolder"], None] | None = None,
) -> None:
    """Writes a tested run's page, with the validation predictions and calibration it shows.

    before_page: called after the pictures and before the page, which marks a run as finished.
    """
    from imgcls_jax.evaluation import calibration, predict
    from imgcls_jax.reporting import run_report

    if not run.published:  # whose figures are not to be computed from rounded predictions
        if run.validation_predictions is None:
            predict.add_validation(run, splits)
        calibration.write(run)
    if before_page is None:
        run_report.write(run, train=splits.train, test=splits.test)
    else:
        run_report.write(run, train=splits.train, test=splits.test, before_page=before_page)
