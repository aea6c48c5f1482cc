"""Trains image classifiers from a config, and looks at what came of it.

  python launch.py --config configs/quickstart.py                     trains, tests and reports; run again, it resumes
  python launch.py --config configs/mnist_cnn.py --config.seed=1      any option of the config is changed like this
  python launch.py --config configs/studies/mnist_models.py           trains every row of a study, then compares them
  python launch.py --mode publish runs/mnist_cnn                      copies a run's or a study's small files to results
  python launch.py --mode compare runs/mnist_cnn runs/mnist_lstm      one table of several runs
  python launch.py --mode show_data --config configs/cifar_fast.py    a picture of images as the model sees them
  python launch.py --mode robustness runs/cifar_fast                  accuracy under noise, blur, fog, JPEG and so on
  python launch.py --mode explain runs/cifar_fast                     Grad-CAM: where a run looks, right and wrong
  python launch.py --mode ensemble runs/cifar_fast runs/cifar_resnet20     lets runs vote
  python launch.py --mode predict runs/mnist_cnn --images *.png       a line of JSON for each of your own images
  python launch.py --mode report runs/cifar_fast                      writes a run's page and pictures anew
  python launch.py --mode export runs/cifar_fast                      the model as files for JAX alone, and its card

All options, with their defaults and meanings, stand in configs/base.py. A run lies in runs/NAME, a study in
runs/STUDY/ROW-seedN, unless --workdir says otherwise.
"""

import signal
import sys
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from imgcls_jax import console
from imgcls_jax.errors import ConfigError, UserError

FLAGS = flags.FLAGS
CONFIG = config_flags.DEFINE_config_file("config", None, "The config file: configs/NAME.py or configs/studies/NAME.py.")
# The modes that take run folders, with the flags that each takes.
OF_FOLDERS = {"publish": (), "compare": (), "report": (), "robustness": ("limit",), "explain": ("method",)}
OF_FOLDERS |= {"ensemble": ("weights", "workdir"), "predict": ("images",), "export": ()}
MODE = flags.DEFINE_enum("mode", "train", ["train", "show_data", *OF_FOLDERS], "What to do.")
flags.DEFINE_integer("limit", 0, "robustness: only so many of the test images; 0 takes all.", lower_bound=0)
flags.DEFINE_string("method", "gradcam", "explain: gradcam, gradcam++ or saliency.")
flags.DEFINE_string("weights", "equal", "ensemble: equal, fitted, greedy (on validation), or figures such as 2,1.")
flags.DEFINE_multi_string("images", [], "predict: files, folders and globs of images; more may follow, without a flag.")
PROFILE = flags.DEFINE_bool("profile", False, "Trace a few steps, print what they cost, and train nothing.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run, study or ensemble; runs/NAME if not given.")


def main(arguments: list[str]) -> int:
    console.set_up()
    try:
        return run(arguments[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"Stopped. What was saved is kept; the same command resumes:\n  {console.command_line()}")
        return 128 + signal.SIGINT


def run(arguments: list[str]) -> int:
    from imgcls_jax import commands, studies
    from imgcls_jax.training.interrupt import Interrupted

    if MODE.value in OF_FOLDERS:
        options = {name: FLAGS[name].value for name in OF_FOLDERS[MODE.value]}
        getattr(commands, MODE.value)(arguments, **options)
        return 0
    if arguments:
        raise ConfigError(f"{arguments[0]!r} is not understood: options begin with --, as in --config.seed=1.")
    if CONFIG.value is None:
        known = ", ".join(sorted(path.stem for path in Path("configs").glob("*.py") if path.stem != "base"))
        raise ConfigError(f"--config is missing: give --config configs/NAME.py. NAME may be: {known}.")
    config, file = CONFIG.value, config_flags.get_config_filename(FLAGS["config"])
    name = config.name or Path(file).stem
    workdir = Path(WORKDIR.value or Path("runs", name))
    look = commands.profile if PROFILE.value else commands.show_data if MODE.value == "show_data" else None
    of_many = {"rows": studies.train, "members": studies.ensemble}
    kind = next((key for key in of_many if key in config), None)
    if look and kind:
        raise ConfigError(f"This looks at one config, not at a study or an ensemble: give one of its {kind}' configs.")
    action = look or of_many.get(kind, commands.train)
    try:
        action(config, workdir)
    except Interrupted as stop:
        print(f"Stopped by {stop}; everything is saved. The same command resumes:\n  {console.command_line()}")
        return stop.exit_status
    return 0


def parse_flags(argv: list[str]) -> list[str]:
    """absl's parser, with an error of one line for what ml_collections refuses."""
    try:
        return app.parse_flags_with_usage(argv)
    except (AttributeError, FileNotFoundError, KeyError, TypeError, ValueError, SyntaxError) as error:
        print(f"error: {error}\nAll options stand in configs/base.py.", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
