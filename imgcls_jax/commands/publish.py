"""Copies the small files of finished runs, studies, ensembles or comparisons to results/NAME.

Checkpoints are not copied.

  imgcls publish runs/mnist_models
"""

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from imgcls_jax.commands import runs

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    runs.add_folders(parser, "folder of a finished run, a study, an ensemble or a comparison")


def run(options: argparse.Namespace) -> None:
    publish(options.folders)


def publish(folders: Sequence[str]) -> None:
    """Publishes each folder. Raises RunError for one of which nothing is finished."""
    from imgcls_jax.run import publish as publishing

    runs.require_folders(folders, "publish runs/NAME")
    for folder in folders:
        log.info("%s", publishing.publish(Path(os.path.expanduser(folder))))
