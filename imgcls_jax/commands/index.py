"""Writes one page with a table of all finished runs below a folder: FOLDER/index.html.

The table can be sorted, searched and filtered, and links to the page of each run.

  imgcls index runs
  imgcls index runs results
"""

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from imgcls_jax.commands import runs

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folders", nargs="+", metavar="FOLDER", help="folder below which the runs are, such as runs"
    )


def run(options: argparse.Namespace) -> None:
    index(options.folders)


def index(folders: Sequence[str]) -> None:
    """Writes the page of each folder. Raises RunError for one without a finished run."""
    from imgcls_jax.reporting import index as pages

    runs.require_folders(folders, "index runs")
    for folder in folders:
        log.info("%s", pages.write(Path(os.path.expanduser(folder))))
