"""`python -m imgcls_jax COMMAND`, and `imgcls COMMAND` where the package is installed."""

import argparse
import sys
from collections.abc import Callable, Sequence

from imgcls_jax import console
from imgcls_jax.commands import COMMANDS, configs
from imgcls_jax.errors import UserError

INTERRUPTED = 130  # the exit status after Ctrl-C, as a shell has it
DESCRIPTION = """Image classification in JAX and Flax.

  python launch.py --config configs/quickstart.py     trains; so does `imgcls train`
  imgcls COMMAND --help                               says what a command does, with examples
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line, that of the process unless it is given; returns the exit status."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    console.set_up()
    return guarded(lambda: options.run(options))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Returns the options of a command line, with the command's function as `run`.

    Exits with status 2 and a message if it cannot be understood.
    """
    options, rest = build_parser().parse_known_args(arguments)
    changes = [argument for argument in rest if configs.CHANGE.match(argument)]
    unknown = [argument for argument in rest if argument not in changes]
    if changes and "changes" not in options:
        unknown = rest
    if unknown:
        hint = ""
        if any("=" not in change for change in changes):
            hint = ". A value follows its option after =, as in --config.seed=1"
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    if changes:
        options.changes = changes
    return options


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="imgcls",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for module in COMMANDS:
        name = module.__name__.rpartition(".")[2]
        description = module.__doc__ or ""
        summary, _, _ = description.partition("\n")
        command = commands.add_parser(
            name.replace("_", "-"),
            aliases=[name] if "_" in name else [],
            help=summary,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run, parser=command)
    return parser


def guarded(action: Callable[[], None]) -> int:
    """Calls `action`; returns the exit status, after one line for an error the user can fix."""
    from imgcls_jax import distributed
    from imgcls_jax.training.interrupt import Interrupted

    try:
        action()
        sys.stdout.flush()
    except BrokenPipeError:
        if not console.reader_is_gone():
            raise
        return distributed.leave(console.NO_READER)
    except UserError as error:
        console.say(f"error: {error}", error=True)
        return distributed.leave(2)
    except KeyboardInterrupt:
        console.say(
            "Stopped. What was saved is kept. The same command resumes:\n"
            f"  {console.command_line()}"
        )
        return distributed.leave(INTERRUPTED)
    except Interrupted as stop:
        console.say(
            f"Stopped by {stop}; everything is saved. The same command resumes:\n"
            f"  {console.command_line()}"
        )
        return stop.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
