"""One table of finished runs: accuracy on the same test images, and what they cost.

Runs whose configs differ in nothing but the seed share a row.
"""

import argparse
import logging
import re
from collections.abc import Sequence
from pathlib import Path

from imgcls_jax.commands import runs

log = logging.getLogger(__name__)
FOLDER = "runs/comparison"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    runs.add_folders(parser, "folder of a run or of a study of runs, or a glob of them")
    parser.add_argument(
        "--workdir", default=FOLDER, help="folder of table and plots (default: %(default)s)"
    )


def run(options: argparse.Namespace) -> None:
    compare(options.folders, workdir=options.workdir)


def compare(folders: Sequence[str], *, workdir: str | Path = FOLDER) -> None:
    from imgcls_jax import backend, console
    from imgcls_jax.errors import RunError
    from imgcls_jax.evaluation import cost
    from imgcls_jax.reporting import compare as tables
    from imgcls_jax.run.folder import CONFIG, RunFolder, runs_in
    from imgcls_jax.training import checks as options

    compared = runs_in(folders)
    if not compared:
        raise RunError("No run folders given: python -m imgcls_jax compare runs/NAME runs/OTHER.")
    alike: dict[str, list[RunFolder]] = {}
    for run in compared:
        config = options.of_run(run)
        config.seed = 0
        alike.setdefault(config.to_json_best_effort(), []).append(run)
    labels = [re.sub(r"-seed\d+$", "", group[0].name) for group in alike.values()]
    if len(set(labels)) < len(labels):
        labels = [str(group[0].path) for group in alike.values()]
    groups = [(label, {}, group) for label, group in zip(labels, alike.values(), strict=True)]
    folder = RunFolder(workdir)
    backend.configure()
    with folder.locked():
        if (folder.path / CONFIG).exists():
            raise RunError(f"{folder.path} holds a run. Give the comparison another --workdir.")
        console.say(tables.write(groups, folder.path, title="Comparison", meter=cost.Meter()))
    log.info("%s", folder.path / "table.md")
