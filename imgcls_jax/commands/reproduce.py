"""Writes the table of the five reports' rows beside our figures, into results/ and README.md.

Run it in the repository.

  imgcls reproduce results
  imgcls reproduce results --verify
"""

import argparse
import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

README = Path("README.md")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder",
        nargs="?",
        default="results",
        metavar="FOLDER",
        help="of published runs (default: %(default)s)",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="write nothing: compute every published figure again from predictions and labels",
    )


def run(options: argparse.Namespace) -> None:
    reproduce(options.folder, verify=options.verify)


def reproduce(folder: str, *, verify: bool = False) -> None:
    """Writes the tables; verify: computes the published figures again instead.

    Raises RunError for a folder without published runs, and for figures that differ.
    """
    from imgcls_jax.reporting import reproduction, verification

    results = Path(os.path.expanduser(folder))
    if verify:
        log.info("%s", verification.verify(results, README))
        return
    log.info("%s\n%s", reproduction.write(results, README), results / reproduction.TABLE)
