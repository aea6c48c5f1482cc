"""The table of every row of the five reports, and our figures: written into results/ and README.md."""

import argparse
import logging
from pathlib import Path

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", nargs="?", default="results", help="of published runs (default: %(default)s)"
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="write nothing: compute every published figure again from predictions and labels",
    )


def run(options: argparse.Namespace) -> None:
    reproduce(options.folder, verify=options.verify)


def reproduce(folder: str, *, verify: bool = False) -> None:
    from imgcls_jax.reporting import reproduction, verification

    results, readme = Path(folder), Path("README.md")
    if verify:
        log.info("%s", verification.verify(results, readme))
        return
    log.info("%s\n%s", reproduction.write(results, readme), results / reproduction.TABLE)
