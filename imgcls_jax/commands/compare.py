"""Writes one table of finished runs and ensembles: accuracy on the same test images, and cost.

Runs whose configs differ in nothing but the seed share a row. The table is written as Markdown,
CSV and LaTeX, with plots of the accuracy, its price and the curves.

  imgcls compare runs/mnist_cnn runs/mnist_lstm
  imgcls compare "runs/mnist_models/*" --workdir runs/models
"""

import argparse
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imgcls_jax.commands import runs

if TYPE_CHECKING:
    from imgcls_jax.reporting.compare_rows import Group

log = logging.getLogger(__name__)

FOLDER = "runs/comparison"
SEED_SUFFIX = re.compile(r"-seed\d+(-fold\d+)?$")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    runs.add_folders(parser, "folder of a run, an ensemble or a study, or a glob of them")
    runs.add_workdir(parser, FOLDER, "folder of the table and its plots")


def run(options: argparse.Namespace) -> None:
    compare(options.folders, workdir=options.workdir)


def compare(folders: Sequence[str], *, workdir: str | Path = FOLDER) -> None:
    """Writes and prints the table. Raises RunError if there are no runs, or one is not finished."""
    from imgcls_jax import backend, console
    from imgcls_jax.errors import RunError
    from imgcls_jax.evaluation import cost
    from imgcls_jax.reporting import compare as tables
    from imgcls_jax.run.ensemble_folder import path_from
    from imgcls_jax.run.folder import CONFIG, RunFolder
    from imgcls_jax.run.publish import COMPARISON

    runs.require_folders(folders, "compare runs/NAME runs/OTHER")
    groups = _groups(folders)
    folder = RunFolder(workdir)
    backend.configure()
    with folder.locked():
        if any(folder.path.rglob(CONFIG)):
            raise RunError(f"{folder.path} holds runs. Give the comparison another --workdir.")
        console.say(tables.write(groups, folder.path, title="Comparison", meter=cost.Meter()))
        systems = {}
        for group in groups:
            systems[group.label] = [path_from(folder.path, run) for run in group.runs]
        folder.write_json(COMPARISON, {"systems": systems})
    log.info("%s", folder.path / "table.md")


def _groups(folders: Sequence[str]) -> list["Group"]:
    """Groups runs that differ in nothing but the seed and the fold; each ensemble is a group."""
    from imgcls_jax.reporting.compare_rows import Group
    from imgcls_jax.run.ensemble_folder import EnsembleFolder
    from imgcls_jax.run.folder import CONFIG, ENSEMBLE, RunFolder, runs_in, without_trials
    from imgcls_jax.training import checks

    groups: dict[str, list[RunFolder]] = {}
    for run in without_trials(runs_in(folders, marks=(CONFIG, ENSEMBLE))):
        if (run.path / ENSEMBLE).exists():
            groups[str(run.path)] = [EnsembleFolder(run.path)]
            continue
        config = checks.of_run(run)
        config.seed = 0
        config.data.fold = 0
        groups.setdefault(config.to_json_best_effort(), []).append(run)
    labels = [SEED_SUFFIX.sub("", group[0].name) for group in groups.values()]
    if len(set(labels)) < len(labels):
        labels = [str(group[0].path) for group in groups.values()]
    return [Group(label, {}, group) for label, group in zip(labels, groups.values(), strict=True)]
