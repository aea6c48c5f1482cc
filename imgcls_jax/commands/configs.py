"""What commands on config files share: the file, changes of its options, and the run's folder."""

import argparse
import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING

from imgcls_jax.errors import ConfigError

if TYPE_CHECKING:
    from ml_collections import ConfigDict

HELP = "configs/NAME.py; options follow as --config.optimizer.learning_rate=0.05"
CHANGE = re.compile(r"--?(no)?config\.")


@dataclasses.dataclass(frozen=True)
class Request:
    """What a command line asks for: a config, the folder to work in, and the changed options."""

    config: "ConfigDict"
    workdir: Path
    changed: tuple[str, ...]


def add_config(
    parser: argparse.ArgumentParser,
    workdir: str = "folder of the run or study (default: runs/NAME)",
) -> None:
    """Adds the arguments `config` and `--workdir`, and allows changes of the config's options.

    workdir: what the help says of it.
    """
    parser.add_argument("config", metavar="CONFIG", help=HELP)
    parser.add_argument("--workdir", metavar="FOLDER", help=workdir)
    parser.set_defaults(changes=[])


def load(options: argparse.Namespace) -> Request:
    """Reads the config that the arguments name, with its changes; exits if there is none."""
    from absl import flags

    from imgcls_jax import console
    from imgcls_jax.commands import overrides

    if "config" not in flags.FLAGS:  # launch.py has defined and read it already
        arguments = ["imgcls", f"--config={options.config}", *options.changes]
        overrides.define_config("config", HELP, arguments=arguments)
        console.parse_flags(arguments)
    config = flags.FLAGS["config"].value
    workdir, changed = overrides.choose_workdir(options.workdir, config)
    return Request(config, workdir, changed)


def load_one(options: argparse.Namespace) -> Request:
    """Reads the config of one run. Raises ConfigError for a study or an ensemble."""
    request = load(options)
    for kind in ("rows", "members"):
        if kind in request.config:
            raise ConfigError(
                "This command takes the config of one run, not of a study or an ensemble. "
                f"Give one of its {kind}' configs."
            )
    return request
