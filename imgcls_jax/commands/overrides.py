"""Reads config files and the changes of their options that a command line or a caller gives.

The options of `model` and `objective` depend on their `name`. They are therefore adapted to the
name that is finally chosen, before ml_collections looks at single options.
"""

import importlib.util
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags
from ml_collections.config_flags import tuple_parser

from imgcls_jax import console
from imgcls_jax.config import trial
from imgcls_jax.config.options import flat_options
from imgcls_jax.errors import ConfigError, did_you_mean

CONFIGS = Path(__file__).parents[2] / "configs"  # of the repository
# Sections whose option `name` says which further options there are.
SECTIONS = ("model", "objective")
SECTION_PATH = re.compile(rf"(?:.+\.)?(?:{'|'.join(SECTIONS)})(?=\.)")
CHANGE = re.compile(r"--?(?:no)?config\.([^=]+)(?:=(.*))?", re.DOTALL)


class _TupleParser(flags.ArgumentParser):
    """Parses a tuple. The last one given wins; ml_collections' own parser would add them up."""

    def parse(self, argument):
        value = tuple_parser.TupleParser().parse(argument)
        if isinstance(argument, str) and argument.lstrip().startswith("{"):
            raise ValueError(f"{argument} is no tuple. Give one such as (1,) or 1,2")
        return value

    def flag_type(self):
        return "tuple"


class _TextParser(flags.ArgumentParser):
    """Parses a text, and None, so that an option can be without a value again."""

    def parse(self, argument):
        if argument == "None":
            return None
        return argument

    def flag_type(self):
        return "string"


class _ConfigFileParser(flags.ArgumentParser):
    """Reads the config file of a flag, adapted to the options that the command line changes."""

    def __init__(self, arguments: Sequence[str]):
        super().__init__()
        self._arguments = arguments

    def parse(self, path):
        arguments = flags.FLAGS.read_flags_from_files(self._arguments, force_gnu=False)
        return read(path, changes_in(arguments))

    def flag_type(self):
        return "config file"


def define_config(
    name: str, help: str, *, arguments: Sequence[str] | None = None
) -> flags.FlagHolder:
    """Defines the flag of a config file, whose options are changed by --NAME.OPTION=VALUE.

    arguments: the command line in which these changes are; None for that of this process.
    """
    config_flags.register_flag_parser_for_type(tuple, _TupleParser())
    config_flags.register_flag_parser_for_type(str, _TextParser())
    if arguments is None:
        arguments = sys.argv
    holder = config_flags.DEFINE_config_file(name, None, help, sys_argv=arguments)
    flags.FLAGS[name].parser = _ConfigFileParser(arguments)
    return holder


def read(path: str, changes: Mapping[str, Any]) -> ConfigDict:
    """Returns the config of a file: what its `get_config` returns for the argument after a colon.

    changes: new values by the paths of their options. They are not applied here: of a model or an
    objective only the options are added that the changes need, with their defaults, and options
    are removed that belong to another model than the one the changes choose.

    Raises ConfigError if there is no such file, or no config in it.
    """
    file, _, argument = os.path.expanduser(path).partition(":")
    spec = importlib.util.spec_from_file_location("config_file", file)
    if not os.path.isfile(file) or spec is None or spec.loader is None:
        raise ConfigError(no_config(f"There is no config in {path}"))
    _make_configs_importable(file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config(argument) if argument else module.get_config()
    if not isinstance(config, ConfigDict):
        raise ConfigError(f"get_config() of {path} returns no ConfigDict.")
    config.lock()
    _adapt_sections(config, changes)
    return config


def apply(config: ConfigDict, changes: Mapping[str, Any], *, source: str) -> None:
    """Changes options by their paths.

    source: who asks for it, for the error. Raises ConfigError for a path that is no option and for
    a value of another type.
    """
    option_paths = flat_options(config)
    for path in changes:
        if path not in option_paths:
            hint = did_you_mean(path, option_paths)
            raise ConfigError(f"{source} names {path!r}, which is no option of this config.{hint}")
    try:
        config.update_from_flattened_dict(changes)
    except TypeError as error:
        raise ConfigError(f"A value of {source} is of the wrong type: {error}") from error


def changes_in(arguments: Sequence[str]) -> dict[str, str]:
    """Returns the values, as texts, of the config's options in a command line, by their paths."""
    changes = {}
    for position, argument in enumerate(arguments):
        match = CHANGE.fullmatch(argument)
        if not match:
            continue
        path, value = match.groups()
        if value is None:
            value = "".join(arguments[position + 1 : position + 2])
        changes[path] = value
    return changes


def stem(path: str) -> str:
    """Returns the name of a config file without folders, suffix and the argument behind a colon."""
    return Path(path.partition(":")[0]).stem


def _make_configs_importable(file: str) -> None:
    """Lets a config file import others as `configs.NAME`, from whatever folder it is read."""
    for parent in Path(file).resolve().parents:
        root = str(parent.parent)
        if parent.name == "configs" and root not in sys.path:
            sys.path.insert(0, root)


def _adapt_sections(config: ConfigDict, changes: Mapping[str, Any]) -> None:
    matches = [SECTION_PATH.match(path) for path in changes]
    for section_path in sorted({match[0] for match in matches if match}):
        section = _section_at(config, section_path)
        if section is not None:
            prefix = f"{section_path}."
            section_changes = {
                path.removeprefix(prefix): value
                for path, value in changes.items()
                if path.startswith(prefix)
            }
            _adapt_section(section, section_path, section_changes)


def _section_at(config: ConfigDict, path: str) -> ConfigDict | None:
    section = config
    for key in path.split("."):
        if not isinstance(section, ConfigDict) or key not in section:
            return None
        section = section[key]
    return section if isinstance(section, ConfigDict) else None


def _adapt_section(section: ConfigDict, path: str, changes: Mapping[str, Any]) -> None:
    """Gives a section the options of the model or objective that is chosen in the end."""
    kind = path.rpartition(".")[2]
    name = changes.get("name", section.get("name"))
    defaults = _defaults(kind, name)
    if defaults is None:
        return  # There is no such model: the check of the options says which there are.
    owner = f"{kind} {name!r}"
    with section.unlocked():
        if name != section.get("name"):
            _remove_foreign_options(section, defaults, path, owner)
        for option in changes:
            _add_option(section, option, defaults, path, owner)


def _defaults(kind: str, name: Any) -> dict[str, Any] | None:
    """Returns the options of a model or an objective with their defaults; None if there is none."""
    if kind == "model":
        from imgcls_jax import models

        if name not in models.MODELS:
            return None
        common = {"name": "", "pretrained": "", "max_parameters": 0}
        return common | models.defaults(name)
    from imgcls_jax.training import objectives

    name = name or "labels"
    if name not in objectives.OBJECTIVES:
        return None
    return {"name": "", **objectives.defaults(name)}


def _remove_foreign_options(
    section: ConfigDict, defaults: Mapping[str, Any], path: str, owner: str
) -> None:
    for key in list(section):
        if key not in defaults:
            console.say(
                f"config.{path}.{key} of the config file is left out: the {owner} has no such "
                "option.",
                error=True,
            )
            del section[key]


def _add_option(
    section: ConfigDict, option: str, defaults: Mapping[str, Any], path: str, owner: str
) -> None:
    """Adds an option with its default, where the config file does not name it.

    option: its path below the section. Raises ConfigError if the owner has no such option.
    """
    key, _, rest = option.partition(".")
    if key not in defaults:
        accepted = ", ".join(sorted(set(defaults) - {"name"})) or "none"
        raise ConfigError(
            f"The {owner} has no option {key!r} (config.{path}.{option}). Its options: {accepted}."
        )
    if key not in section:
        section[key] = ConfigDict() if rest else defaults[key]
    if rest and isinstance(section[key], ConfigDict):
        _add_inner_option(section, key, rest, f"{path}.{key}")


def _add_inner_option(section: ConfigDict, key: str, option: str, path: str) -> None:
    """Adds an option of a model inside a model: simclr's backbone, or one of a hybrid's."""
    inner = section[key]
    if section.get("name") == "simclr":
        name = section.get("backbone")
    else:
        name, _, option = option.partition(".")
        path = f"{path}.{name}"
        if name not in inner:
            inner[name] = ConfigDict()
        inner = inner[name]
    defaults = _defaults("model", name)
    if option and defaults is not None:
        _add_option(inner, option, defaults, path, f"model {name!r}")


def config_file() -> str:
    """Returns what the command line gives as --config: a file, with an argument after a colon."""
    flag: Any = flags.FLAGS["config"]  # absl's type does not have what ml_collections adds
    return flag.config_filename


def new_values() -> dict[str, Any]:
    """Returns the values, by path, of the options that the command line changes."""
    flag: Any = flags.FLAGS["config"]
    return flat_options(config_flags.get_override_values(flag))


def no_config(problem: str) -> str:
    """Returns an error that says which config files there are."""
    names = sorted(path.stem for path in CONFIGS.glob("*.py") if path.stem != "base")
    if not names:
        return f"{problem}: give the path of a config file."
    return (
        f"{problem}: give --config {os.path.relpath(CONFIGS)}/NAME.py. "
        f"NAME may be: {', '.join(names)}."
    )


def choose_workdir(workdir: str | None, config: ConfigDict) -> tuple[Path, tuple[str, ...]]:
    """Returns the folder to work in, and the paths of the options that the command line changes.

    workdir: the argument --workdir. Without it the folder is runs/NAME, or runs/NAME-trial for a
    trial, where NAME is the config's name or that of its file.
    """
    changed = list(new_values())
    if workdir:
        return Path(os.path.expanduser(workdir)), tuple(changed)
    if "name" in changed:
        changed.remove("name")  # It is read here and nowhere else.
    name = config.get("name") or stem(config_file())
    return Path("runs", trial.folder_name(str(name), config)), tuple(changed)
