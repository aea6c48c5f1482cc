"""The older form `launch.py --mode X` and `--profile`, as commands of `python -m imgcls_jax`."""

import shlex
from collections.abc import Mapping, Sequence

from absl import flags

from imgcls_jax import console
from imgcls_jax.commands import overrides
from imgcls_jax.errors import ConfigError

# The flags that each mode takes; each became an argument of the command.
MODE_FLAGS: Mapping[str, tuple[str, ...]] = {
    "train": (
        *("config", "workdir", "dry_run"),
        *("distributed", "coordinator", "processes", "process"),
    ),
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


def define() -> None:
    """Defines the flags of the older form."""
    flags.DEFINE_enum(
        "mode", "train", list(MODE_FLAGS), "An older form: see python -m imgcls_jax --help."
    )
    flags.DEFINE_bool("profile", False, "An older form of python -m imgcls_jax profile.")
    flags.DEFINE_integer("limit", 0, "Of --mode robustness.", lower_bound=0)
    flags.DEFINE_string("method", "gradcam", "Of --mode explain.")
    flags.DEFINE_bool("verify", False, "Of --mode reproduce.")
    flags.DEFINE_string("weights", "equal", "Of --mode ensemble.")
    flags.DEFINE_multi_string("images", [], "Of --mode predict.")


def command(arguments: Sequence[str]) -> list[str]:
    """Returns the command line of the command that launch.py's flags ask for; [] for training.

    arguments: what launch.py was given besides flags. A line names the command. Raises ConfigError
    for flags that do not go together, and for one that has no effect.
    """
    mode = _mode()
    asked = f"--mode {mode}"
    if flags.FLAGS.profile:
        asked = "--profile"
    accepted = MODE_FLAGS[mode]
    _refuse_flags_without_effect(accepted, asked)
    if mode == "train":
        return []
    new = [mode.replace("_", "-"), *_command_options(accepted), *_positional(mode, arguments)]
    console.say(f"{asked} is now: python -m imgcls_jax {shlex.join(new)}", error=True)
    return new


def _mode() -> str:
    if not flags.FLAGS.profile:
        return flags.FLAGS.mode
    if flags.FLAGS.mode != "train":
        raise ConfigError(
            f"--profile and --mode {flags.FLAGS.mode} are two things to do: give one of them."
        )
    if flags.FLAGS.dry_run:
        raise ConfigError("--profile and --dry_run are two things to do: give one of them.")
    return "profile"


def _refuse_flags_without_effect(accepted: Sequence[str], asked: str) -> None:
    all_flags = {flag for mode_flags in MODE_FLAGS.values() for flag in mode_flags}
    for flag in sorted(all_flags - set(accepted)):
        if flags.FLAGS[flag].present:
            listed = ", ".join(f"--{name}" for name in accepted) or "no other flags"
            raise ConfigError(f"--{flag} has no effect here: {asked} takes {listed}.")


def _positional(mode: str, arguments: Sequence[str]) -> list[str]:
    """Returns the arguments without a name; those of --images follow the run of `predict`."""
    if mode != "predict":
        return list(arguments)
    return [*arguments[:1], *flags.FLAGS.images, *arguments[1:]]


def _command_options(accepted: Sequence[str]) -> list[str]:
    """Returns the flags that were given, as arguments of the command."""
    options = []
    for name in accepted:
        if name == "images" or not flags.FLAGS[name].present:
            continue
        value = flags.FLAGS[name].value
        if name == "config":
            options.append(overrides.config_file())
            for path, new_value in overrides.new_values().items():
                options.append(f"--config.{path}={new_value}")
        elif value is True:
            options.append(f"--{name}")
        else:
            options.append(f"--{name}={value}")
    return options
