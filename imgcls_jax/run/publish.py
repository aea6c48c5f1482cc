"""What is kept of runs in results/: their small files."""

import contextlib
import logging
import os
from pathlib import Path

from imgcls_jax import foreign
from imgcls_jax.errors import RunError
from imgcls_jax.files import write_atomically
from imgcls_jax.run.folder import (
    CALIBRATION,
    CONFIG,
    DATA,
    ENSEMBLE,
    ENVIRONMENT,
    EXPLANATION,
    METRICS,
    PREDICTIONS,
    REPORT,
    ROBUSTNESS,
    TEST,
    RunFolder,
    runs_in,
)

log = logging.getLogger(__name__)

# Files that are kept in results/, those of them that are there.
PUBLISHED = (
    *(CONFIG, ENVIRONMENT, DATA, METRICS, TEST, PREDICTIONS, REPORT, "dashboard.png"),
    *(CALIBRATION, "calibration.png"),
    *(ROBUSTNESS, "robustness.md", "robustness.csv", "robustness.png"),
    *(EXPLANATION, "explain.png"),
)
PUBLISHED_OF_STUDIES = ("table.md", "table.csv", "table.tex", "table.png", "cost.png", "curves.png")
PUBLISHED_OF_ENSEMBLES = (
    ENSEMBLE,
    "ensemble.md",
    "ensemble.png",
    PREDICTIONS,
    CALIBRATION,
    "calibration.png",
    REPORT,
)


def publish(folder: Path) -> Path:
    """Copies the small files of a finished run, of a study's runs or of an ensemble to results/NAME, which it returns.

    Checkpoints stay. Runs of a study that are not finished are left out with a warning. Raises RunError where the
    folder is none of them, or nothing of it is finished.
    """
    if not os.path.isdir(folder):  # a name too long for the file system is none, for it
        raise RunError(
            f"{folder} is neither a run folder nor a study of runs: there is no such folder."
        )
    target = Path("results", folder.resolve().name)
    if folder.resolve() == target.resolve():
        raise RunError(
            f"{folder} is published already. Give the folder of a run, a study or an ensemble."
        )
    foreign.check_plain(folder)
    with RunFolder(folder).unchanged():
        if (folder / ENSEMBLE).exists():
            _copy(folder, target, PUBLISHED_OF_ENSEMBLES)
        else:
            _publish_runs(folder, target)
    return target


def _publish_runs(folder: Path, target: Path) -> None:
    found = runs_in([folder])
    runs = [run for run in found if run.finished]
    unfinished = ", ".join(str(run.path) for run in found if not run.finished)
    if not runs:
        raise RunError(f"Not finished: {unfinished}. Train first; the same command resumes.")
    if unfinished:
        log.warning("Left out, since not finished: %s. Train them, and publish again.", unfinished)
    alone = [run.path for run in runs] == [folder]
    with contextlib.ExitStack() as stack:
        for run in runs:
            if not alone:  # whose folder is another one
                stack.enter_context(run.unchanged())
            run.test, run.predictions  # noqa: B018  the errors, before anything is copied
        for run in runs:
            _copy(run.path, target / run.path.relative_to(folder), PUBLISHED)
    if not alone:
        _copy(folder, target, PUBLISHED_OF_STUDIES)


def _copy(source: Path, target: Path, names: tuple[str, ...]) -> None:
    """Copies those of the files that are there."""
    with RunFolder(target).locked():
        for name in names:
            if (source / name).exists():
                with foreign.open_regular(source / name) as file:
                    write_atomically(target / name, file.read())
