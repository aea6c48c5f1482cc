"""Trains image classifiers: a config, or the rows of a study.

  python launch.py --config configs/quickstart.py                  trains, tests and reports
  python launch.py --config configs/mnist_cnn.py --config.seed=1   changes an option of the config
  python launch.py --config configs/studies/mnist_models.py        trains the rows of a study

Given again, a command continues where it stopped. All options are in configs/base.py. A run is in
runs/NAME, a study in runs/STUDY/ROW-seedN, or in --workdir. --dry_run lists what would be trained.
Several processes train one config together by --distributed=auto (SLURM, Open MPI, Kubernetes, TPU
pods) or --coordinator=HOST:PORT --processes=2 --process=0.
Everything else is a command of `python -m imgcls_jax`: see `python -m imgcls_jax --help`.
"""

from absl import app, flags

from imgcls_jax import __main__ as cli
from imgcls_jax import console
from imgcls_jax.commands import modes, overrides, train
from imgcls_jax.errors import ConfigError

CONFIG = overrides.define_config(
    "config", "The config: configs/NAME.py or configs/studies/NAME.py."
)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run or study; runs/NAME by default.")
DRY_RUN = flags.DEFINE_bool("dry_run", False, "List what would be trained, and train nothing.")
DISTRIBUTED = flags.DEFINE_enum(
    "distributed", None, ["auto"], "SLURM, Open MPI, Kubernetes or a TPU pod says the next three."
)
COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of the first of some processes.")
PROCESSES = flags.DEFINE_integer("processes", None, "How many processes there are.", lower_bound=1)
PROCESS = flags.DEFINE_integer("process", None, "Which of them this is, from 0.", lower_bound=0)
modes.define()


def main(arguments: list[str]) -> int:
    console.set_up()
    return cli.guarded(lambda: run(arguments[1:]))


def run(arguments: list[str]) -> None:
    command = modes.command(arguments)
    if command:
        options = cli.parse(command)
        return options.run(options)
    if arguments:
        raise ConfigError(
            f"{arguments[0]!r} is not understood: options begin with --, as in --config.seed=1."
        )
    if CONFIG.value is None:
        raise ConfigError(overrides.no_config("--config is missing"))
    workdir, changed = overrides.choose_workdir(WORKDIR.value, CONFIG.value)
    joining = train.joining(DISTRIBUTED.value, COORDINATOR.value, PROCESSES.value, PROCESS.value)
    train.train(CONFIG.value, workdir, changed, dry_run=DRY_RUN.value, joining=joining)


if __name__ == "__main__":
    app.run(main, flags_parser=console.parse_flags)
