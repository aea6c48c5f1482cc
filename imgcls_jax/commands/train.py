"""Trains, tests and reports a config, or the rows of a study; given again, it goes on where it stopped.

The same as `python launch.py --config CONFIG`.
"""

import argparse
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from imgcls_jax.commands import configs, runs

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from imgcls_jax.data import Splits
    from imgcls_jax.run.folder import RunFolder

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    configs.add_config(parser)
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="list what would be trained, with times, and do nothing",
    )
    together = parser.add_argument_group("several processes that train one config together")
    together.add_argument("--coordinator", metavar="HOST:PORT", help="of the first process")
    together.add_argument("--processes", type=int, help="how many there are")
    together.add_argument("--process", type=int, help="which of them this is, from 0")


def run(options: argparse.Namespace) -> None:
    config, workdir, given = configs.load(options)
    joining = (options.coordinator, options.processes, options.process)
    start(config, workdir, given, dry_run=options.dry_run, joining=joining)


def start(
    config: "ConfigDict",
    workdir: Path,
    given: Iterable[str],
    *,
    dry_run: bool = False,
    joining: tuple = (None,) * 3,
) -> None:
    """Trains what the config describes: a run, the rows of a study, or the members of an ensemble.

    joining: coordinator, number of processes, and which of them this is, or None for each.
    """
    from imgcls_jax import distributed
    from imgcls_jax.commands import dry_run as plans
    from imgcls_jax.commands import study
    from imgcls_jax.errors import ConfigError

    many = "rows" in config or "members" in config
    if any(value is not None for value in joining) and (many or dry_run):
        raise ConfigError(
            "Several processes (--coordinator) train one config together, and do nothing else."
        )
    distributed.join(*joining)
    if dry_run:
        plans.show(config, workdir, given)
    elif "rows" in config:
        study.train(config, workdir, given)
    elif "members" in config:
        study.ensemble(config, workdir, given)
    else:
        train(config, workdir, given)


def train(
    config: "ConfigDict", workdir: Path, given: Iterable[str] = (), *, patience: float = 0.0
) -> "RunFolder":
    """Trains, tests and reports the run of `config` in `workdir`; resumes it where it stopped, repeats nothing.

    given: paths of the options that the command line set; those that nothing reads are named. patience: seconds to wait
    for another process that writes there. Raises RunError where it does not end, and where the folder holds a run of
    another config or of other data.
    """
    from imgcls_jax import backend, data, distributed, pretrained
    from imgcls_jax.config import reads
    from imgcls_jax.data import checks
    from imgcls_jax.run import resuming
    from imgcls_jax.run.folder import DATA, RunFolder

    config = checked(reads.recorded(config, given))
    run = RunFolder(workdir)
    backend.configure(cpu_devices=config.train.cpu_devices)
    theirs, over = distributed.from_primary(
        lambda: (config.to_json_best_effort(), resuming.finished(config, run))
    )
    distributed.check_same("config", config.to_json_best_effort(), theirs)
    if over:
        return run
    with run.locked(patience=patience):
        # Looked at again: until the lock was ours another process may have trained here.
        begun, over = distributed.from_primary(lambda: (run.begun, resuming.finished(config, run)))
        if over:
            return run
        if not begun:
            pretrained.fetch(config)  # first of all, since it is what may not be there
        splits = data.load(config.data)
        distributed.check_same(
            "data", splits.fingerprint, distributed.from_primary(lambda: splits.fingerprint)
        )
        if begun and distributed.is_primary() and (run.path / DATA).exists():
            resuming.check_data(run, splits)
        checks.tell(splits.report)
        _train(config, run, splits)
    return run


def checked(config: "ConfigDict") -> "ConfigDict":
    """The config with what its pretrained weights bring. Raises ConfigError for options that cannot be."""
    from imgcls_jax import pretrained
    from imgcls_jax.training import checks as options

    options.check(config)
    return pretrained.resolve(config)


def _train(config: "ConfigDict", run: "RunFolder", splits: "Splits") -> None:
    from imgcls_jax import backend, distributed, pretrained
    from imgcls_jax.evaluation import predict, teacher
    from imgcls_jax.run import resuming
    from imgcls_jax.run.folder import CONFIG, DATA, ENVIRONMENT, PREDICTIONS, TEACHER, TEST
    from imgcls_jax.training import loop, recorder

    environment = backend.describe() | {"data_fingerprint": splits.report["fingerprint"]}
    if (
        distributed.is_primary()
        and run.begun
        and (before := run.environment["device_count"]) != environment["device_count"]
    ):
        log.info(
            "The run was on %s so far and goes on on %d: its numbers will agree with those of either to rounding.",
            f"{before} device{'s' * (before > 1)}",
            environment["device_count"],
        )
    if distributed.is_primary():
        weights = run.environment.get("weights") if run.begun else pretrained.describe(config)
        environment |= {"weights": weights} if weights else {}
    run.write_json(CONFIG, config.to_dict())
    run.write_json(ENVIRONMENT, environment)
    run.write_json(DATA, splits.report)
    loop.train(config, run, teacher.taught(config, splits, run.path / TEACHER))
    if not distributed.is_primary():
        return
    if not ((run.path / TEST).exists() and (run.path / PREDICTIONS).exists()):
        predict.test(run, splits)
    recorder.write_results(run)
    runs.write_report(run, splits, before_page=recorder.write_pictures)
    log.info("%s", resuming.figures(run))
