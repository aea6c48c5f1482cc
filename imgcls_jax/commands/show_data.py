"""Draws training images of a config as the model sees them."""

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
    show_data(config, workdir, given)


def show_data(config: "ConfigDict", workdir: Path, given: Iterable[str] = ()) -> None:
    """Draws several augmented versions of some training images into `workdir`/show_data.png."""
    from imgcls_jax import backend, data
    from imgcls_jax.config import reads
    from imgcls_jax.data import checks
    from imgcls_jax.reporting import fonts, plots
    from imgcls_jax.run.folder import SHOWN, RunFolder
    from imgcls_jax.training import preview

    config = train.checked(reads.recorded(config, given))
    backend.configure()
    splits = data.load(config.data)
    checks.tell(splits.report)
    shown = preview.draw(config, splits.train)
    class_names = fonts.legible(splits.train.class_names)
    names = [class_names[label] for label in splits.train.labels[shown.indices]]
    with RunFolder(workdir).locked():
        plots.save(
            plots.batch(splits.train.images[shown.indices], shown.images, names), workdir / SHOWN
        )
    log.info("%s", "\n".join([shown.words, str(workdir / SHOWN), *reads.unread(config)]))
