"""What launch.py's command line may say: how options of a config are read from it, and which flags belong together."""

import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags
from ml_collections.config_flags import tuple_parser
from ml_collections.config_flags.config_flags import ConfigFileFlagParser

from imgcls_jax import console
from imgcls_jax.config.options import flat_options
from imgcls_jax.errors import ConfigError

SECTIONS = ("model", "objective")  # whose `name` says which further options there are


class _Tuple(flags.ArgumentParser):
    """Tuples as everything else: what is given last wins, where ml_collections' own parser would add up."""

    def parse(self, argument):
        value = tuple_parser.TupleParser().parse(argument)
        if isinstance(argument, str) and argument.lstrip()[:1] == "{":
            raise ValueError(f"{argument} is no tuple: give one, as in (1,) or 1,2")
        return value

    def flag_type(self):
        return "tuple"


class _Text(flags.ArgumentParser):
    """Texts, and None, where an option without a value shall have none again."""

    def parse(self, argument):
        return None if argument == "None" else argument

    def flag_type(self):
        return "string"


class _ConfigFile(ConfigFileFlagParser):
    """Reads a config file; the options of its model are those of the model that the command line finally chooses."""

    def parse(self, path):
        config = super().parse(os.path.expanduser(path))
        if isinstance(config, ConfigDict):
            _follow(config, _given(flags.FLAGS.read_flags_from_files(sys.argv, force_gnu=False)))
        return config


def define_config(name: str, help: str) -> flags.FlagHolder:
    """The flag of a config file, whose options are changed by --NAME.OPTION=VALUE."""
    config_flags.register_flag_parser_for_type(tuple, _Tuple())
    config_flags.register_flag_parser_for_type(str, _Text())
    holder = config_flags.DEFINE_config_file(name, None, help)
    flags.FLAGS[name].parser = _ConfigFile(name)
    return holder


def _given(arguments: list[str]) -> dict[str, str]:
    """The values, as texts, of the options of `config` in a command line, by their paths."""
    given = {}
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if match := re.fullmatch(r"--?(?:no)?config\.([^=]+)(?:=(.*))?", argument, re.DOTALL):
            given[match[1]] = following if match[2] is None else match[2]
    return given


def _follow(config: ConfigDict, given: Mapping[str, str]) -> None:
    """Adds the options that the command line gives to a model or an objective which has them, though the config file
    does not name them, and takes away those of another model that the file had chosen."""
    homes = {
        match[0]
        for path in given
        if (match := re.match(rf"(?:.+\.)?(?:{'|'.join(SECTIONS)})(?=\.)", path))
    }
    for home in sorted(homes):
        section = _at(config, home)
        if section is None:
            continue
        own = {
            path.removeprefix(f"{home}."): value
            for path, value in given.items()
            if path.startswith(f"{home}.")
        }
        kind, current = home.rpartition(".")[2], section.get("name")
        name = own.get("name", current)
        known = _defaults(kind, name)
        if known is None:
            continue  # there is no such model: the check of the options says which there are
        with section.unlocked():
            if name != current:
                _leave_out(section, known, home, f"{kind} {name!r}")
            for option in own:
                _add(section, option, known, home, f"{kind} {name!r}")


def _at(config: ConfigDict, path: str) -> ConfigDict | None:
    for key in path.split("."):
        if not isinstance(config, ConfigDict) or key not in config:
            return None
        config = config[key]
    return config if isinstance(config, ConfigDict) else None


def _defaults(kind: str, name: Any) -> dict[str, Any] | None:
    """The options of the model or the objective of that name with their defaults; None where there is none."""
    if kind == "model":
        from imgcls_jax import models

        common = {"name": "", "pretrained": "", "max_parameters": 0}
        return common | models.defaults(name) if name in models.MODELS else None
    from imgcls_jax.training import objectives

    name = name or "labels"
    return {"name": "", **objectives.defaults(name)} if name in objectives.OBJECTIVES else None


def _leave_out(section: ConfigDict, known: Mapping[str, Any], home: str, what: str) -> None:
    for key in [key for key in section if key not in known]:
        said = f"config.{home}.{key} of the config file is left out: the {what} has no such option."
        console.say(said, error=True)
        del section[key]


def _add(section: ConfigDict, option: str, known: Mapping[str, Any], home: str, what: str) -> None:
    key, _, rest = option.partition(".")
    if key not in known:
        accepted = ", ".join(sorted(set(known) - {"name"})) or "none"
        raise ConfigError(
            f"The {what} has no option {key!r} (config.{home}.{option}). Its options: {accepted}."
        )
    if key not in section:
        section[key] = ConfigDict() if rest else known[key]
    if rest and isinstance(section[key], ConfigDict):
        _add_inside(section, key, rest, f"{home}.{key}")


def _add_inside(section: ConfigDict, key: str, rest: str, home: str) -> None:
    """An option of a model inside a model: of simclr's backbone, or by its name of one of a hybrid's backbones."""
    inside, name, option = section[key], section.get("backbone"), rest
    if section.get("name") != "simclr":
        name, _, option = rest.partition(".")
        home = f"{home}.{name}"
        if name not in inside:
            inside[name] = ConfigDict()
        inside = inside[name]
    known = _defaults("model", name)
    if option and known is not None:
        _add(inside, option, known, home, f"model {name!r}")


def what_to_do(mode: str, takes: Mapping[str, Iterable[str]]) -> str:
    """The mode, or "profile" or "dry_run" where that flag is given. takes: the flags that each of them takes.

    Raises ConfigError for two of them at a time, and for a flag that is given and of which nothing would come.
    """
    asked = [name for name in ("profile", "dry_run") if flags.FLAGS[name].value]
    asked += [f"mode {mode}"] if mode != "train" else []
    if len(asked) > 1:
        raise ConfigError(f"--{asked[0]} and --{asked[1]} are two things to do: give one of them.")
    doing = (asked or [mode])[0].removeprefix("mode ")
    given = {name.partition(".")[0] for name in flags.FLAGS if flags.FLAGS[name].present}
    known = {name for names in takes.values() for name in names}
    if others := sorted(given & known - {*takes[doing]}):
        accepted = ", ".join(f"--{name}" for name in takes[doing]) or "no other flags"
        raise ConfigError(
            f"--{others[0]} has no effect here: --{(asked or ['mode train'])[0]} takes {accepted}."
        )
    return doing


def no_config(folder: Path) -> str:
    """What to say where --config gave none: what it may be, of the config files in `folder`."""
    flag = flags.FLAGS["config"]
    what = (
        "--config is missing"
        if flag.value is None
        else f"There is no config in {flag.config_filename}"
    )
    names = ", ".join(sorted(path.stem for path in folder.glob("*.py") if path.stem != "base"))
    return f"{what}: give --config {os.path.relpath(folder)}/NAME.py. NAME may be: {names}."


def workdir(given: str | None, config: ConfigDict) -> tuple[Path, tuple[str, ...]]:
    """The folder to work in, and the paths of the options that the command line sets for what is done there.

    given: --workdir. Without it, and without a name, a run is called after the config's file.
    """
    flag = flags.FLAGS["config"]
    options = flat_options(config_flags.get_override_values(flag))
    if given:
        return Path(os.path.expanduser(given)), tuple(options)
    options.pop("name", None)  # which is read here, and only here
    return Path("runs", str(config.get("name") or Path(flag.config_filename).stem)), tuple(options)
