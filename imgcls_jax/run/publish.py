"""Copies what is kept of finished runs to results/: figures, predictions and one picture each.

Pages and the other pictures are not kept: `imgcls report` draws them again from what is. Only
explain.png is, since drawing it takes the weights, which stay where the run was trained. Absolute
paths in configs and commands become relative ones, so that they say nothing of the machine.
"""

import contextlib
import logging
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from imgcls_jax import foreign
from imgcls_jax.errors import RunError
from imgcls_jax.files import write_atomically
from imgcls_jax.run.folder import (
    CALIBRATION,
    CONFIG,
    CORRECTIONS,
    DATA,
    ENSEMBLE,
    ENVIRONMENT,
    EXPLANATION,
    METRICS,
    PREDICTIONS,
    REPORT,
    ROBUSTNESS,
    TEST,
    UNKNOWN,
    RunFolder,
    runs_in,
    without_trials,
)

log = logging.getLogger(__name__)

RESULTS = "results"
# The files that are kept, as far as a folder has them. Predictions are kept in half precision.
OF_RUNS = (
    CONFIG,
    ENVIRONMENT,
    DATA,
    CORRECTIONS,
    METRICS,
    TEST,
    CALIBRATION,
    ROBUSTNESS,
    "robustness.md",
    "robustness.csv",
    UNKNOWN,
    EXPLANATION,
    "explain.png",
    "dashboard.png",
)
OF_STUDIES = ("table.md", "table.csv", "table.tex", "table.png")
COMPARISON = "comparison.json"  # the runs of each of its systems, as paths from its folder
OF_COMPARISONS = (COMPARISON, *OF_STUDIES)
WITH_PATHS = (CONFIG, ENVIRONMENT)  # of data and weights, and in the command
ABSOLUTE_PATHS = (
    re.compile(r"(?<=[\"'=])/[^\"'=]+(?=[\"'])"),  # in quotes, so that it may have spaces
    re.compile(r"(?<![^\s\"'=])/[^\s\"'=]+"),
)
OF_ENSEMBLES = (ENSEMBLE, CALIBRATION, "ensemble.md", "ensemble.png")


def publish(folder: Path) -> Path:
    """Copies a finished run, a study's finished runs, an ensemble or a comparison to results/NAME.

    Returns that folder. Checkpoints are not copied. Runs of a study that are not finished are left
    out with a warning. Raises RunError if the folder is none of these or nothing in it is finished.
    """
    if not os.path.isdir(folder):  # unlike Path.is_dir, false for a name that is too long
        raise RunError(f"{folder} is neither a run folder nor a study: there is no such folder.")
    target = Path(RESULTS, folder.resolve().name)
    if folder.resolve() == target.resolve():
        raise RunError(
            f"{folder} is published already. Give the folder of a run, a study, an ensemble or a "
            "comparison."
        )
    foreign.check_plain(folder)
    with RunFolder(folder).unchanged():
        if (folder / ENSEMBLE).exists():
            _copy(folder, target, OF_ENSEMBLES)
        elif (folder / COMPARISON).exists():
            _copy(folder, target, OF_COMPARISONS)
        else:
            _publish_runs(folder, target)
    return target


def half_precision(probabilities: np.ndarray) -> np.ndarray:
    """Rounds probabilities [N, K] to float16 without changing any predicted class.

    Rounding can make the two largest probabilities of a row equal, and `argmax` then takes the
    first. Where that is not the class predicted before, the others are lowered by one step.
    """
    predicted = probabilities.argmax(axis=-1)
    rounded: np.ndarray = probabilities.astype(np.float16)
    for row in np.flatnonzero(rounded.argmax(axis=-1) != predicted):
        ties = rounded[row] == rounded[row].max()
        ties[predicted[row]] = False
        rounded[row, ties] = np.nextafter(rounded[row, ties], np.float16(0))
    return rounded


def _with_relative_paths(content: Any) -> Any:
    """Returns JSON content whose texts name files of this machine by paths from the working folder."""
    if isinstance(content, Mapping):
        return {key: _with_relative_paths(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_with_relative_paths(value) for value in content]
    if isinstance(content, str):
        content = _relative_path(content)
        for pattern in ABSOLUTE_PATHS:
            content = pattern.sub(lambda match: _relative_path(match[0]), content)
    return content


def _relative_path(path: str) -> str:
    if os.path.isabs(path) and os.path.exists(path):
        return os.path.relpath(path)
    return path


def _publish_runs(folder: Path, target: Path) -> None:
    runs = _finished_runs(folder)
    is_study = [run.path for run in runs] != [folder]
    copies = [target / run.path.relative_to(folder) for run in runs]
    with contextlib.ExitStack() as stack:
        for run in runs:
            if is_study:  # the folder of a single run is locked already
                stack.enter_context(run.unchanged())
            run.require_test_results()  # before anything is copied
        for run, copy in zip(runs, copies, strict=True):
            _copy(run.path, copy, OF_RUNS)
    if is_study:
        _copy(folder, target, OF_STUDIES)
        _warn_of_others(target, copies, folder)


def _warn_of_others(target: Path, published: Collection[Path], study: Path) -> None:
    """Warns of runs in the target that an earlier publication left there."""
    others = [str(run.path) for run in runs_in([target]) if run.path not in published]
    if others:
        log.warning(
            "Published earlier, and not of %s's finished runs: %s. Remove them if they are of "
            "another version of the study.",
            study,
            ", ".join(others),
        )


def _finished_runs(folder: Path) -> list[RunFolder]:
    runs = without_trials(runs_in([folder]))
    finished = [run for run in runs if run.finished]
    unfinished = ", ".join(str(run.path) for run in runs if not run.finished)
    if not finished:
        raise RunError(f"Not finished: {unfinished}. Train first; the same command resumes.")
    if unfinished:
        log.warning("Left out, since not finished: %s. Train them, and publish again.", unfinished)
    return finished


def _copy(source: Path, target: Path, names: Collection[str]) -> None:
    """Copies the files of these names, as far as they exist, and the predictions.

    Those that an earlier run left there, and its page, are removed.
    """
    with RunFolder(target).locked():
        (target / REPORT).unlink(missing_ok=True)
        for name in names:
            if not (source / name).exists():
                (target / name).unlink(missing_ok=True)
                continue
            if name in WITH_PATHS:
                content = RunFolder(source).read_json(name)
                RunFolder(target).write_json(name, _with_relative_paths(content))
                continue
            with foreign.open_regular(source / name) as file:
                content = file.read()
            if name.endswith(".md"):
                markdown = content.decode(errors="replace")
                content = _without_pictures(markdown, except_for=names).encode()
            write_atomically(target / name, content)
        if (source / PREDICTIONS).exists():
            _copy_predictions(RunFolder(source), RunFolder(target))


def _copy_predictions(source: RunFolder, target: RunFolder) -> None:
    probabilities, labels = source.predictions
    validation = source.validation_predictions
    if validation is not None:
        validation_probabilities, validation_labels = validation
        validation = half_precision(validation_probabilities), validation_labels
    target.write_predictions((half_precision(probabilities), labels), validation)


def _without_pictures(markdown: str, *, except_for: Collection[str]) -> str:
    """The text without the paragraphs that show a picture which is not copied."""
    paragraphs = []
    for paragraph in markdown.strip("\n").split("\n\n"):
        picture = paragraph.partition("](")[2].removesuffix(")")
        if not paragraph.startswith("![") or picture in except_for:
            paragraphs.append(paragraph)
    return "\n\n".join(paragraphs) + "\n"
