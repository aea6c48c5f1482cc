"""Suggests a learning rate for a config: a few hundred steps while the rate rises.

The steps are those of the config's own training, with its optimizer and augmentation. Once the
smoothed loss has lost half of what it had won, training has broken down; the suggestion is a twentieth of
that rate. The curve, find_lr.png, is in the run's folder or, if it has the run of another config, in
NAME-find_lr beside it. Nothing else is kept.

  imgcls find-lr configs/cifar_cnn.py
  imgcls find-lr configs/cifar_fast.py --steps 600 --config.train.batch_size=256
"""

import argparse
import logging
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from imgcls_jax.commands import configs

if TYPE_CHECKING:
    from ml_collections import ConfigDict

log = logging.getLogger(__name__)

RATE = "optimizer.learning_rate"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    configs.add_config(parser)
    parser.add_argument("--steps", metavar="N", type=int, default=300, help="training steps (300)")
    parser.add_argument("--low", metavar="RATE", type=float, default=1e-6, help="the first (1e-6)")
    parser.add_argument("--high", metavar="RATE", type=float, default=10.0, help="the last (10)")


def run(options: argparse.Namespace) -> None:
    from imgcls_jax import console

    request = configs.load_one(options)
    suggestion = find_lr(
        request.config,
        request.workdir,
        request.changed,
        num_steps=options.steps,
        low=options.low,
        high=options.high,
    )
    words = ["python", "launch.py", f"--config={options.config}"]
    rate = f"--config.{_rate_path(request.config)}"
    words += [change for change in options.changes if not change.startswith(f"{rate}=")]
    if options.workdir:
        words.append(f"--workdir={options.workdir}")
    console.say(shlex.join([*words, f"{rate}={suggestion:g}"]))


def find_lr(
    config: "ConfigDict",
    workdir: Path,
    changed: Iterable[str] = (),
    *,
    num_steps: int = 300,
    low: float = 1e-6,
    high: float = 10.0,
) -> float:
    """Returns the rate that a range test suggests, and draws its curve into `workdir`/find_lr.png.

    If the folder has the run of another config, the picture is in one beside it. Raises
    TrainingError if the curve shows no rate at which training breaks down.

    changed: paths of options changed by hand; those that nothing reads are named.
    """
    from imgcls_jax import api, backend, data
    from imgcls_jax.config import reads
    from imgcls_jax.evaluation import teacher
    from imgcls_jax.reporting.plots import range_test as plot
    from imgcls_jax.reporting.plots import style
    from imgcls_jax.run import resuming
    from imgcls_jax.run.folder import RANGE_TEST, RunFolder
    from imgcls_jax.training import phases, range_test

    config = api.check_config(reads.recorded(config, changed))
    range_test.check(num_steps, low, high)
    backend.configure(cpu_devices=config.train.cpu_devices)
    folder = resuming.folder_for(config, RunFolder(workdir), use="find_lr")
    picture = folder.path / RANGE_TEST
    with folder.locked():
        splits = data.load(config.data, quick=config.quick)
        splits = teacher.add_predictions(config, splits)
        test = range_test.run(config, splits, num_steps=num_steps, low=low, high=high)
        style.save(plot.draw(test), picture)
    first_phase = next(iter(phases.of(config).values()))
    log.info(
        "Training breaks down at a learning rate of %.2g; a twentieth of that is %.2g, and "
        "config.%s is %.2g.\n%s",
        test.breakdown,
        test.suggestion,
        _rate_path(config),
        first_phase.optimizer.learning_rate,
        "\n".join([str(picture), *reads.unread(config)]),
    )
    return test.suggestion


def _rate_path(config: "ConfigDict") -> str:
    """Returns the path of the option that sets the learning rate of the config's first phase."""
    from imgcls_jax.config.options import flat_options
    from imgcls_jax.training import phases

    first_phase = next(iter(phases.of(config)))
    path = f"adapt.phases.{first_phase}.{RATE}"
    if path in flat_options(config):
        return path
    return RATE
