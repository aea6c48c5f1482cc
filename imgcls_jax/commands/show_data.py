"""Draws training images of a config as the model sees them, several draws of each.

The picture show_data.png is in the run's folder or, if it has the run of another config, in
NAME-show_data beside it.

  imgcls show-data configs/cifar_fast.py
  imgcls show-data configs/quickstart.py "--config.data.transform=resize(28)|rotation(10)"
"""

import argparse
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from imgcls_jax.commands import configs

if TYPE_CHECKING:
    from ml_collections import ConfigDict

log = logging.getLogger(__name__)

add_arguments = configs.add_config


def run(options: argparse.Namespace) -> None:
    request = configs.load_one(options)
    show_data(request.config, request.workdir, request.changed)


def show_data(config: "ConfigDict", workdir: Path, changed: Iterable[str] = ()) -> None:
    """Draws several augmented versions of some training images into `workdir`/show_data.png.

    If the folder has the run of another config, the picture is in one beside it.

    changed: paths of options changed by hand; those that nothing reads are named.
    """
    from imgcls_jax import api, backend, data
    from imgcls_jax.config import reads
    from imgcls_jax.data import checks
    from imgcls_jax.reporting.plots import fonts, images, style
    from imgcls_jax.run import resuming
    from imgcls_jax.run.folder import SHOWN, RunFolder
    from imgcls_jax.training import preview

    config = api.check_config(reads.recorded(config, changed))
    backend.configure()
    splits = data.load(config.data, quick=config.quick)
    checks.log_report(splits.report)
    shown = preview.draw(config, splits.train)
    class_names = fonts.legible(splits.train.class_names)
    names = [class_names[label] for label in splits.train.labels[shown.indices]]
    stored = splits.train.images[shown.indices]
    figure = images.batch(stored, shown.images, names=names)
    folder = resuming.folder_for(config, RunFolder(workdir), use="show_data")
    picture = folder.path / SHOWN
    with folder.locked():
        style.save(figure, picture)
    log.info("%s", "\n".join([shown.words, str(picture), *reads.unread(config)]))
