"""Writes docs/commands.md from the parsers of the commands: `make docs`."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from imgcls_jax.__main__ import build_parser

FILE = Path(__file__).with_name("commands.md")
INTRODUCTION = """# Commands

<!-- Written by `make docs` from imgcls_jax/commands; a test compares it with the parsers. -->

`python launch.py --config CONFIG` trains. Everything else is a command: `imgcls COMMAND`, or
`python -m imgcls_jax COMMAND` where the package is not installed. `imgcls COMMAND --help` says what
is below. An argument that a command does not take is an error, and the exit status is then 2.
The older `launch.py --mode X` still works, and names the new form.
"""


def main() -> None:
    FILE.write_text(render())


def render() -> str:
    """Returns the page."""
    sections = [INTRODUCTION]
    for name, parser in _subparsers(build_parser()).items():
        sections.append(_section(name, parser))
    return "\n".join(sections)


def _section(name: str, parser: argparse.ArgumentParser) -> str:
    lines = [f"## {name}"]
    text: list[str] = []
    for paragraph in (parser.description or "").rstrip().split("\n\n"):
        if not paragraph.startswith("  "):
            text += paragraph.split()
            continue
        if text:
            lines.append(" ".join(text))
            text = []
        lines += ["", *(f"  {line}" for line in paragraph.split("\n"))]  # a block of code
    if text:
        lines += ["", " ".join(text)]
    lines.append("")
    lines += _arguments(parser)
    for action, subparser in _subparsers(parser).items():
        summary = _summaries(parser)[action]
        lines.append(f"- `{name} {action}`: {summary}")
        lines += [f"  {line}" for line in _arguments(subparser)]
    return "\n".join(lines) + "\n"


def _arguments(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction | argparse._SubParsersAction):
            continue
        name = action.metavar or action.dest
        if action.option_strings:
            name = action.option_strings[-1]
        if action.option_strings and action.nargs != 0:
            name = f"{name} {action.metavar or action.dest.upper()}"
        text = (action.help or "").replace("%(default)s", str(action.default))
        yield f"- `{name}`: {text}"


def _subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Returns the parsers of the commands, without their aliases."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            names = _summaries(parser)
            return {name: action.choices[name] for name in names}
    return {}


def _summaries(parser: argparse.ArgumentParser) -> dict[str, str]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return {
                choice.dest.partition(" ")[0]: choice.help or ""
                for choice in action._choices_actions
            }
    return {}


if __name__ == "__main__":
    main()
