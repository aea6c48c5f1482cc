"""Trains image classifiers from a config, and looks at what came of it.

  python launch.py --config configs/quickstart.py                     trains, tests and reports; run again, it resumes
  python launch.py --config configs/mnist_cnn.py --config.seed=1      any option of the config is changed like this
  python launch.py --config configs/studies/mnist_models.py           trains a study's rows; --dry_run lists them
  python launch.py --config configs/mnist_cnn.py --coordinator=HOST:PORT --processes=2 --process=0   one of two
  python launch.py --mode publish runs/mnist_cnn                      copies a run's or a study's small files to results
  python launch.py --mode reproduce results                           the table of every row of the reports, and ours
  python launch.py --mode compare runs/mnist_cnn runs/mnist_lstm      one table of several runs
  python launch.py --mode show_data --config configs/cifar_fast.py    a picture of images as the model sees them
  python launch.py --mode robustness runs/cifar_fast                  accuracy under noise, blur, fog, JPEG and so on
  python launch.py --mode explain runs/cifar_fast                     Grad-CAM: where a run looks, right and wrong
  python launch.py --mode ensemble runs/cifar_fast runs/cifar_resnet20     lets runs vote
  python launch.py --mode predict runs/mnist_cnn --images *.png       a line for each image; also by efficientnet_lite0
  python launch.py --mode report runs/cifar_fast                      writes a run's page and pictures anew
  python launch.py --mode index runs                                  a page of all finished runs below a folder
  python launch.py --mode export runs/cifar_fast                      the model as files for JAX alone, and its card

All options stand in configs/base.py. A run is in runs/NAME, a study in runs/STUDY/ROW-seedN, or in --workdir.
"""

import signal
from pathlib import Path

from absl import app, flags
from ml_collections import ConfigDict

from imgcls_jax import console, overrides, processes
from imgcls_jax.errors import ConfigError, UserError

FLAGS = flags.FLAGS
CONFIG = overrides.define_config("config", "The config file: configs/NAME.py or configs/studies/NAME.py.")
JOINING = ("coordinator", "processes", "process")
# What there is to do with a config, and the modes that take run folders, with the flags that each takes.
OF_CONFIG = {"train": ("config", "workdir", *JOINING)}
OF_CONFIG |= dict.fromkeys(("show_data", "profile", "dry_run"), ("config", "workdir"))
OF_FOLDERS = {"compare": ("workdir",), "robustness": ("limit",), "explain": ("method",), "reproduce": ("verify",)}
OF_FOLDERS |= {"ensemble": ("weights", "workdir"), "predict": ("images",)}
OF_FOLDERS |= dict.fromkeys(("publish", "report", "export", "index"), ())
MODE = flags.DEFINE_enum("mode", "train", ["train", "show_data", *OF_FOLDERS], "What to do.")
flags.DEFINE_integer("limit", 0, "robustness: only so many of the test images; 0 takes all.", lower_bound=0)
flags.DEFINE_string("method", "gradcam", "explain: gradcam, gradcam++ or saliency.")
flags.DEFINE_bool("verify", False, "reproduce: compute every published figure again, and write nothing.")
flags.DEFINE_string("weights", "equal", "ensemble: equal, fitted, greedy, confidence, stacked, or as 2,1.")
flags.DEFINE_multi_string("images", [], "predict: files, folders and globs of images; more may follow, without a flag.")
flags.DEFINE_bool("profile", False, "Trace a few steps, print what they cost, and train nothing.")
flags.DEFINE_bool("dry_run", False, "List what would be trained, with parameters and times, and do nothing.")
flags.DEFINE_string("coordinator", None, "HOST:PORT of the first of several processes that train together.")
flags.DEFINE_integer("processes", None, "How many processes train together.", lower_bound=1)
flags.DEFINE_integer("process", None, "Which of them this is, from 0.", lower_bound=0)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run, study or ensemble; runs/NAME if not given.")


def main(arguments: list[str]) -> int:
    console.set_up()
    try:
        return run(arguments[1:])
    except UserError as error:
        console.say(f"error: {error}", error=True)
        return processes.leave(2)
    except KeyboardInterrupt:
        console.say(f"Stopped. What was saved is kept. The same command resumes:\n  {console.command_line()}")
        return processes.leave(128 + signal.SIGINT)


def run(arguments: list[str]) -> int:
    from imgcls_jax import commands, dry_run, studies
    from imgcls_jax.training.interrupt import Interrupted

    doing = overrides.what_to_do(MODE.value, OF_CONFIG | OF_FOLDERS)
    joining = [FLAGS[name].value for name in JOINING]
    if any(joining) and {"rows", "members"} & {*(CONFIG.value or ())}:
        raise ConfigError("Several processes (--coordinator) train one config together, and do nothing else.")
    if doing in OF_FOLDERS:
        getattr(commands, doing)(arguments, **{name: FLAGS[name].value for name in OF_FOLDERS[doing]})
        return 0
    if arguments:
        raise ConfigError(f"{arguments[0]!r} is not understood: options begin with --, as in --config.seed=1.")
    if not isinstance(CONFIG.value, ConfigDict):
        raise ConfigError(overrides.no_config(Path(__file__).parent / "configs"))
    config = CONFIG.value
    workdir, given = overrides.workdir(WORKDIR.value, config)
    of_many = {"rows": studies.train, "members": studies.ensemble}
    kind = next((key for key in of_many if key in config), None)
    actions = {"profile": commands.profile, "show_data": commands.show_data, "dry_run": dry_run.show}
    if kind and doing in ("profile", "show_data"):
        raise ConfigError(f"This looks at one config, not at a study or an ensemble: give one of its {kind}' configs.")
    action = actions.get(doing) or of_many.get(kind, commands.train)
    processes.join(*joining)
    try:
        action(config, workdir, given)
    except Interrupted as stop:
        console.say(f"Stopped by {stop}; everything is saved. The same command resumes:\n  {console.command_line()}")
        return stop.exit_status
    return 0


if __name__ == "__main__":
    app.run(main, flags_parser=console.parse_flags)
