"""Trains, tests and reports a config, or the rows of a study.

Given again, it continues where it stopped. Every option of configs/base.py can be changed. The same
as `python launch.py --config CONFIG`.

  imgcls train configs/quickstart.py
  imgcls train configs/mnist_cnn.py --config.optimizer.learning_rate=0.002 --config.seed=1
  imgcls train configs/studies/mnist_models.py --dry-run
"""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from imgcls_jax import console
from imgcls_jax.commands import configs

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from imgcls_jax.distributed import Joining
    from imgcls_jax.run.folder import RunFolder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    configs.add_config(parser)
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="list what would be trained, with parameters and times, and train nothing",
    )
    group = parser.add_argument_group(
        "several processes that train one config together (docs/distributed.md)"
    )
    group.add_argument(
        "--distributed",
        choices=["auto"],
        metavar="auto",
        help="SLURM, Open MPI, Kubernetes or a TPU pod say what the other three would",
    )
    group.add_argument("--coordinator", metavar="HOST:PORT", help="address of the first process")
    group.add_argument("--processes", type=int, metavar="N", help="how many there are")
    group.add_argument("--process", type=int, metavar="K", help="which of them this is, from 0")


def run(options: argparse.Namespace) -> None:
    request = configs.load(options)
    train(
        request.config,
        request.workdir,
        request.changed,
        dry_run=options.dry_run,
        joining=joining(
            options.distributed, options.coordinator, options.processes, options.process
        ),
    )


def joining(
    distributed: str | None, coordinator: str | None, processes: int | None, process: int | None
) -> "Joining":
    """Returns how this process joins others, as the options say."""
    from imgcls_jax.distributed import Joining

    return Joining(coordinator, processes, process, is_automatic=distributed == "auto")


def train(
    config: "ConfigDict",
    workdir: str | Path,
    changed: Iterable[str] = (),
    *,
    dry_run: bool = False,
    joining: "Joining | None" = None,
) -> "RunFolder | None":
    """Trains what the config describes: a run, a study's rows or trials, or an ensemble's members.

    changed: paths of options changed by hand; those that nothing reads are named. dry_run: only
    lists what would be trained. Returns the run if it is one. Raises ConfigError if several
    processes are asked for anything but training one run.
    """
    with console.interrupts_wait():
        from imgcls_jax import api, distributed
        from imgcls_jax.commands import dry_run as plans
        from imgcls_jax.commands import search, study
        from imgcls_jax.errors import ConfigError

    workdir = Path(workdir)
    has_several_runs = "rows" in config or "members" in config
    joining = joining or distributed.Joining()
    has_several_processes = joining != distributed.Joining()
    if has_several_processes and (has_several_runs or dry_run):
        raise ConfigError(
            "Several processes (--coordinator, --distributed) can only train one run together. "
            "Give the config of a run, without --dry_run."
        )
    distributed.join(joining)
    if dry_run:
        plans.show(config, workdir)
    elif "rows" in config and config.get("search"):
        search.train(config, workdir, changed)
    elif "rows" in config:
        study.train(config, workdir, changed)
    elif "members" in config:
        study.ensemble(config, workdir, changed)
    else:
        return api.train(config, workdir, changed=changed)
    return None
