"""Traces a few training steps of a config, and says how long they take and what they compute.

Nothing is trained. The trace, for TensorBoard or Perfetto, is in the run's folder or, if it has the
run of another config, in NAME-profile beside it.

  imgcls profile configs/cifar_fast.py
  imgcls profile configs/cifar_fast.py --config.train.batch_size=256
  imgcls profile configs/cifar_fast.py --plan h100   what a GPU would need at least: time, memory
"""

import argparse
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from imgcls_jax.commands import configs
from imgcls_jax.devices import DEVICES, Device
from imgcls_jax.errors import ConfigError

if TYPE_CHECKING:
    from ml_collections import ConfigDict

log = logging.getLogger(__name__)

PUBLISHED = Path("results")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    configs.add_config(parser)
    parser.add_argument(
        "--plan",
        choices=list(DEVICES),
        help="compute what a step needs on another device, from XLA's counts, and run nothing",
    )


def run(options: argparse.Namespace) -> None:
    request = configs.load_one(options)
    if options.plan:
        if options.workdir:
            raise ConfigError("--workdir has no effect with --plan, which writes nothing.")
        plan(request.config, DEVICES[options.plan], request.changed)
    else:
        profile(request.config, request.workdir, request.changed)


def plan(config: "ConfigDict", device: Device, changed: Iterable[str] = ()) -> None:
    """Prints what a step of the config needs at least on a device of this kind.

    Published runs in results/ say how near to it measured ones came.

    changed: paths of options changed by hand; those that nothing reads are named.
    """
    from imgcls_jax import api, backend, console, data
    from imgcls_jax.config import reads
    from imgcls_jax.training import planning

    config = api.check_config(reads.recorded(config, changed))
    config.train.cpu_devices = 1
    backend.configure()
    step = planning.plan(config, data.load(config.data, quick=config.quick), device)
    measured = []
    if PUBLISHED.is_dir():
        measured = planning.measurements(config, [str(PUBLISHED)])
    console.say(planning.describe(step, device, measured), *reads.unread(config))


def profile(config: "ConfigDict", workdir: Path, changed: Iterable[str] = ()) -> None:
    """Writes the trace into `workdir`/profile, and logs what the steps cost.

    If the folder has the run of another config, the trace is in one beside it.

    changed: paths of options changed by hand; those that nothing reads are named.
    """
    from imgcls_jax import api, backend, data
    from imgcls_jax.config import reads
    from imgcls_jax.evaluation import teacher
    from imgcls_jax.run import resuming
    from imgcls_jax.run.folder import PROFILE, RunFolder
    from imgcls_jax.training import profiling

    config = api.check_config(reads.recorded(config, changed))
    backend.configure(cpu_devices=config.train.cpu_devices)
    folder = resuming.folder_for(config, RunFolder(workdir), use="profile")
    trace = folder.path / PROFILE
    with folder.locked():
        splits = data.load(config.data, quick=config.quick)
        splits = teacher.add_predictions(config, splits)
        figures = profiling.profile(config, splits, trace)
    log.info("%s", "\n".join([profiling.describe(figures, trace), *reads.unread(config)]))
