"""One page of all finished runs below a folder: FOLDER/index.html."""

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folders", nargs="+", metavar="FOLDER", help="folder below which the runs are, such as runs"
    )


def run(options: argparse.Namespace) -> None:
    index(options.folders)


def index(folders: Sequence[str]) -> None:
    from imgcls_jax.reporting import index as pages

    for folder in folders:
        log.info("%s", pages.write(Path(os.path.expanduser(folder))))
