"""`launch.py --mode X` and `--profile` of versions before 0.2, as commands of `python -m imgcls_jax`."""

import shlex
import sys
from collections.abc import Mapping, Sequence

from absl import flags

from imgcls_jax import console
from imgcls_jax.commands.configs import CHANGE
from imgcls_jax.errors import ConfigError

# The flags that each mode takes beside folders, and the argument that each became.
OF_MODES: Mapping[str, tuple[str, ...]] = {
    "train": (),
    "show_data": ("config", "workdir"),
    "profile": ("config", "workdir"),
    "compare": ("workdir",),
    "robustness": ("limit",),
    "explain": ("method",),
    "reproduce": ("verify",),
    "ensemble": ("weights", "workdir"),
    "predict": ("images",),
    "publish": (),
    "report": (),
    "export": (),
    "index": (),
}
OF_TRAINING = ("config", "workdir", "dry_run", "coordinator", "processes", "process")


def define() -> None:
    """The flags, hidden as far as absl can: without help."""
    flags.DEFINE_enum(
        "mode", "train", list(OF_MODES), "An older form: see python -m imgcls_jax --help."
    )
    flags.DEFINE_bool("profile", False, "An older form of python -m imgcls_jax profile.")
    flags.DEFINE_integer("limit", 0, "Of --mode robustness.", lower_bound=0)
    flags.DEFINE_string("method", "gradcam", "Of --mode explain.")
    flags.DEFINE_bool("verify", False, "Of --mode reproduce.")
    flags.DEFINE_string("weights", "equal", "Of --mode ensemble.")
    flags.DEFINE_multi_string("images", [], "Of --mode predict.")


def command(arguments: Sequence[str]) -> list[str]:
    """The arguments of the command that launch.py's flags ask for, after a line that names it; [] for training.

    Raises ConfigError for flags that go together with no command, and for two of them at a time.
    """
    mode, given = flags.FLAGS.mode, _given()
    if flags.FLAGS.profile and mode != "train":
        raise ConfigError(f"--profile and --mode {mode} are two things to do: give one of them.")
    if flags.FLAGS.profile and flags.FLAGS.dry_run:
        raise ConfigError("--profile and --dry_run are two things to do: give one of them.")
    asked = "--profile" if flags.FLAGS.profile else f"--mode {mode}"
    name = "profile" if flags.FLAGS.profile else mode
    takes = OF_MODES[name] or (OF_TRAINING if name == "train" else ())
    if others := sorted(given - {*takes, "mode", "profile"}):
        accepted = ", ".join(f"--{flag}" for flag in takes) or "no other flags"
        raise ConfigError(f"--{others[0]} has no effect here: {asked} takes {accepted}.")
    if name == "train":
        return []
    if name == "predict":
        arguments = [*arguments[:1], *flags.FLAGS.images, *arguments[1:]]
    new = [name.replace("_", "-"), *_translated(takes, given), *arguments]
    console.say(f"{asked} is now: python -m imgcls_jax {shlex.join(new)}", error=True)
    return new


def _given() -> set[str]:
    """The names of the flags of this program that the command line gives."""
    known = {flag for takes in (*OF_MODES.values(), OF_TRAINING) for flag in takes} | {
        "mode",
        "profile",
    }
    return {name for name in known if flags.FLAGS[name].present}


def _translated(takes: Sequence[str], given: set[str]) -> list[str]:
    """Those of the flags that were given, as arguments of the command."""
    arguments = []
    for name in takes:
        if name not in given or name == "images":
            continue
        value = flags.FLAGS[name].value
        if name == "config":
            arguments += [flags.FLAGS["config"].config_filename, *filter(CHANGE.match, sys.argv)]
        elif value is True:
            arguments.append(f"--{name}")
        else:
            arguments.append(f"--{name}={value}")
    return arguments
