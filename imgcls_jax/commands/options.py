"""Lists the options of a config with their defaults and meaning.

Each is given to launch.py as --config.PATH=VALUE.

  imgcls options                    all of them
  imgcls options schedule           those whose path has "schedule" in it
  imgcls options --format markdown  as docs/options.md; --format base as configs/base.py
"""

import argparse

FORMATS = ("text", "markdown", "base")
WIDTH = 100  # characters of a line of configs/base.py


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("word", nargs="?", default="", help="only options whose path contains it")
    parser.add_argument(
        "--format", choices=FORMATS, default="text", help="text, or what a file of the project has"
    )


def run(options: argparse.Namespace) -> None:
    from imgcls_jax import console
    from imgcls_jax.config.options import OPTIONS
    from imgcls_jax.errors import ConfigError

    if options.format != "text" and options.word:
        raise ConfigError(
            f"--format {options.format} lists all options: leave out {options.word!r}."
        )
    if options.format == "markdown":
        console.say(markdown().rstrip("\n"))
    elif options.format == "base":
        console.say(base_config().rstrip("\n"))
    else:
        paths = [path for path in OPTIONS if options.word in path]
        if not paths:
            raise ConfigError(f"No option has {options.word!r} in its path.")
        console.say(text(paths))


def help_of(path: str) -> str:
    """Returns the meaning of an option, with the names it may have."""
    from imgcls_jax.config.options import OPTIONS
    from imgcls_jax.training import checks

    option = OPTIONS[path]
    choices = checks.choices_text(path) if path in checks.CHOICES else ""
    return option.help.format(choices=choices)


def text(paths: list[str]) -> str:
    """Returns the options as paragraphs for a terminal."""
    from imgcls_jax.config.options import OPTIONS

    paragraphs = []
    for path in paths:
        option = OPTIONS[path]
        paragraphs.append(
            f"--config.{path}={option.default!r}  ({option.kind})\n    {help_of(path)}"
        )
    return "\n".join(paragraphs)


def markdown() -> str:
    """Returns docs/options.md."""
    from imgcls_jax.config.groups import groups
    from imgcls_jax.config.options import OPTIONS

    lines = [
        "# Options",
        "",
        "Every option of a config; `--config.PATH=VALUE` changes one on the command line. This page is",
        "written by `imgcls options --format markdown`. Models and objectives have further options.",
        "*Identity*: whether runs that differ in it are different runs.",
    ]
    for group in groups(OPTIONS):
        lines += ["", f"## {group.title}", ""]
        lines += ["| option | default | accepts | identity | since | meaning |"]
        lines += ["| --- | --- | --- | --- | --- | --- |"]
        for path, option in group.options.items():
            default = repr(option.default).replace("|", "\\|")
            identity = "yes" if option.is_identity else "no"
            meaning = help_of(path).replace("|", "\\|")
            if option.old_name:
                meaning += f" (until 0.1: `{option.old_name}`)"
            lines.append(
                f"| `{path}` | `{default}` | {option.kind} | {identity} | {option.since} | {meaning} |"
            )
    return "\n".join(lines) + "\n"


BASE_HEAD = '''"""Every option with its default and its meaning. All other configs start from this one.

An option of any run is changed on the command line by its path, for example
`--config.optimizer.learning_rate=0.05`. This file is written from imgcls_jax/config/options.py by
`imgcls options --format base > configs/base.py`.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config() -> ConfigDict:
    config = ConfigDict()
'''


def base_config() -> str:
    """Returns configs/base.py."""
    from imgcls_jax.config.groups import groups
    from imgcls_jax.config.options import OPTIONS

    lines: list[str] = []
    for group in groups(OPTIONS):
        if lines:
            lines.append("")
        for section in group.sections:
            lines.append(f"    config.{section} = {_variable(section)} = ConfigDict()")
        for path, option in group.options.items():
            parent, _, key = path.rpartition(".")
            assignment = f"    {_variable(parent)}.{key} = {_value(option)}"
            lines += _commented(assignment, help_of(path))
    return BASE_HEAD + "\n".join(lines) + "\n    return config\n"


def _variable(section: str) -> str:
    return section.rpartition(".")[2] or "config"


def _value(option) -> str:
    from imgcls_jax.config.kinds import Section

    if isinstance(option.kind, Section):
        return "ConfigDict()"
    if option.default is None:
        return "placeholder(str)"
    if isinstance(option.default, str):
        return f'"{option.default}"'
    if isinstance(option.default, int) and option.default >= 10_000:
        return f"{option.default:_}"
    return repr(option.default)


def _commented(assignment: str, meaning: str) -> list[str]:
    """Returns an assignment with its comment, on one line if it fits there."""
    import textwrap

    line = f"{assignment}  # {meaning}"
    if len(line) <= WIDTH:
        return [line]
    comment = textwrap.wrap(meaning, WIDTH - 6)
    return [*(f"    # {part}" for part in comment), assignment]
