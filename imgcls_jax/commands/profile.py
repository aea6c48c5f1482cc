"""Traces a few training steps of a config and says what they cost."""

import argparse
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from imgcls_jax.commands import configs, train

if TYPE_CHECKING:
    from ml_collections import ConfigDict

log = logging.getLogger(__name__)
add_arguments = configs.add_config


def run(options: argparse.Namespace) -> None:
    config, workdir, given = configs.load_one(options)
    profile(config, workdir, given)


def profile(config: "ConfigDict", workdir: Path, given: Iterable[str] = ()) -> None:
    """Writes the trace into `workdir`/profile, and prints what the steps cost."""
    from imgcls_jax import backend, data
    from imgcls_jax.config import reads
    from imgcls_jax.evaluation import teacher
    from imgcls_jax.run.folder import PROFILE, RunFolder
    from imgcls_jax.training import profiling

    config = train.checked(reads.recorded(config, given))
    backend.configure(cpu_devices=config.train.cpu_devices)
    folder = workdir / PROFILE
    with RunFolder(workdir).locked():
        figures = profiling.profile(config, teacher.taught(config, data.load(config.data)), folder)
    log.info("%s", "\n".join([profiling.describe(figures, folder), *reads.unread(config)]))
