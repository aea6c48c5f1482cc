"""What commands on config files share: the file, changes of its options, and the folder to work in."""

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from imgcls_jax.errors import ConfigError

if TYPE_CHECKING:
    from ml_collections import ConfigDict


HELP = "configs/NAME.py; options follow as --config.optimizer.learning_rate=0.05"
CHANGE = re.compile(r"--?(no)?config\.")


def add_config(parser: argparse.ArgumentParser) -> None:
    """The arguments `config` and `--workdir`; what is not known must be changes of the config's options."""
    parser.add_argument("config", help=HELP)
    parser.add_argument("--workdir", help="folder of the run or study (default: runs/NAME)")
    parser.set_defaults(changes=[])


def load(options: argparse.Namespace) -> tuple["ConfigDict", Path, tuple[str, ...]]:
    """The config with its changes, the folder to work in, and the paths of the options that were changed."""
    from absl import flags
    from ml_collections import ConfigDict

    from imgcls_jax import console
    from imgcls_jax.commands import overrides

    # Config files import others as `configs.NAME`, also where the program is the console script.
    for parent in Path(options.config.partition(":")[0]).resolve().parents:
        if parent.name == "configs":
            sys.path.insert(0, str(parent.parent))
    if "config" not in flags.FLAGS:  # launch.py has it, and has read it
        overrides.define_config("config", HELP)
        console.parse_flags(["imgcls", f"--config={options.config}", *options.changes])
    config = flags.FLAGS["config"].value
    if not isinstance(config, ConfigDict):
        raise ConfigError(overrides.no_config(Path("configs")))
    workdir, given = overrides.workdir(options.workdir, config)
    return config, workdir, given


def load_one(options: argparse.Namespace) -> tuple["ConfigDict", Path, tuple[str, ...]]:
    """The same. Raises ConfigError for a study or an ensemble, which has many configs."""
    config, workdir, given = load(options)
    for kind in ("rows", "members"):
        if kind in config:
            raise ConfigError(
                f"This looks at one config, not at a study or an ensemble: give one of its {kind}' configs."
            )
    return config, workdir, given
