"""Finds wrong labels, copies, outliers and blank images in a data set, and suggests corrections.

A page with the images, audit.html, and corrections.csv, which data.corrections reads, are written
into NAME-audit beside the run's folder. Vectors of the images are the features of
config.model.pretrained or of a run; without either they are responses to patches of the images.

  imgcls audit configs/own_photos.py:FOLDER
  imgcls audit configs/mnist_cnn.py --split test
  imgcls audit runs/NAME --workdir audits/NAME
"""

import argparse
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imgcls_jax.commands import configs

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from imgcls_jax.run.folder import RunFolder

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    configs.add_config(parser, "folder of the audit (default: runs/NAME-audit)")
    parser.add_argument(
        "--split",
        action="append",
        default=[],
        metavar="NAME",
        help="train, validation or test, as the source has them; may be repeated (default: all)",
    )


def run(options: argparse.Namespace) -> None:
    from imgcls_jax.errors import ConfigError
    from imgcls_jax.run.folder import RunFolder

    if not Path(os.path.expanduser(options.config)).is_dir():
        workdir = options.workdir
        request = configs.load_one(options)
        audit(
            request.config,
            workdir or Path(f"{request.workdir}-audit"),
            splits=options.split,
            changed=request.changed,
        )
        return
    if options.changes:
        raise ConfigError("Options of a run cannot be changed: give its config instead.")
    folder = RunFolder(options.config)
    workdir = options.workdir or f"{folder.path}-audit"
    audit_run(folder, workdir, splits=options.split)


def audit(
    config: "ConfigDict",
    workdir: Path | str,
    *,
    splits: Sequence[str] = (),
    changed: Iterable[str] = (),
) -> None:
    """Audits the data of a config, and writes page and corrections into `workdir`.

    splits: those of the source that are audited; () for all. changed: paths of options changed by
    hand; those that nothing reads are named. Raises ConfigError for a split that is not there.
    """
    from imgcls_jax import api
    from imgcls_jax.config import reads

    config = api.check_config(reads.recorded(config, changed))
    _audit(config, workdir, splits=splits)
    for sentence in reads.unread(config):
        log.info("%s", sentence)


def audit_run(folder: "RunFolder", workdir: Path | str, *, splits: Sequence[str] = ()) -> None:
    """Audits the data of a run on the features of its best model, as `audit` does.

    Training has seen the labels of the run's training images, so fewer of their errors are found.
    Raises RunError for a folder without a run, or if its data is no longer the same.
    """
    from imgcls_jax.commands import runs

    runs.require_tested(folder)
    _audit(folder.config, workdir, splits=splits, run=folder)


def _audit(
    config: "ConfigDict",
    workdir: Path | str,
    *,
    splits: Sequence[str],
    run: "RunFolder | None" = None,
) -> None:
    from imgcls_jax.errors import RunError
    from imgcls_jax.run.folder import CORRECTIONS, RunFolder

    folder = RunFolder(workdir)
    corrections = os.path.expanduser(config.data.corrections or "")
    if os.path.realpath(corrections) == os.path.realpath(folder.path / CORRECTIONS):
        raise RunError(f"{corrections} is what this data is corrected by. Give another --workdir.")
    with folder.locked():
        _write(config, folder, splits=splits, run=run)


def _write(
    config: "ConfigDict",
    folder: "RunFolder",
    *,
    splits: Sequence[str],
    run: "RunFolder | None",
) -> None:
    from imgcls_jax import backend, data, pretrained
    from imgcls_jax.commands import runs
    from imgcls_jax.errors import ConfigError
    from imgcls_jax.evaluation import audit as evaluation
    from imgcls_jax.evaluation import embedding
    from imgcls_jax.reporting import audit as reporting
    from imgcls_jax.reporting import formats
    from imgcls_jax.run.folder import CORRECTIONS

    backend.configure()
    if run is None:
        if config.get("quick"):
            raise ConfigError("An audit looks at all images: leave out config.quick.")
        data_config = config.data
        pretrained.fetch(config)
    else:
        data_config = runs.data_config(run)
        runs.data_of(run)
    source, broken = data.read_readable(data_config, keep=run is None)
    examples = evaluation.collect(source, splits)
    first = next(iter(examples.datasets.values()))
    embed, features = embedding.choose(config, first.images, run=run)
    result = evaluation.run(examples, embed)
    title = config.data.get("name") or config.data.source
    reporting.write(folder.path, result, source, title=title, features=features, broken=broken)
    lines = [reporting.lead(result, features)]
    for name, count in evaluation.counts(result, broken).items():
        lines.append(f"{name}: {count:,}")
    seconds = formats.duration(sum(result.seconds.values()))
    lines.append(f"{seconds}, {backend.peak_memory() / 1e9:.1f} GB of memory")
    lines += [str(folder.path / reporting.PAGE), str(folder.path / CORRECTIONS)]
    log.info("%s", "\n".join(lines))
