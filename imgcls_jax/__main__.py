"""`python -m imgcls_jax COMMAND`, and `imgcls COMMAND` where the package is installed."""

import argparse
import sys
from collections.abc import Callable, Sequence

from imgcls_jax import console
from imgcls_jax.commands import COMMANDS, configs
from imgcls_jax.errors import UserError

INTERRUPTED = 130  # the exit status after Ctrl-C, as a shell has it


def main(arguments: Sequence[str] | None = None) -> int:
    """Does what the command line says; returns the exit status."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    console.set_up()
    return guarded(lambda: options.run(options))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of a command line, with `run`, what to do with them. Exits where it cannot be understood."""
    parser = argparse.ArgumentParser(
        prog="imgcls", description="Image classification in JAX and Flax."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for module in COMMANDS:
        name = module.__name__.rpartition(".")[2]
        summary = module.__doc__.partition("\n")[0]
        command = commands.add_parser(
            name.replace("_", "-"),
            aliases=[name] if "_" in name else [],
            help=summary,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run, parser=command)
    options, rest = parser.parse_known_args(arguments)
    unknown = [argument for argument in rest if not configs.CHANGE.match(argument)]
    if unknown or (rest and "changes" not in options):
        options.parser.error(f"unrecognized arguments: {' '.join(unknown or rest)}")
    if rest:
        options.changes = rest
    return options


def guarded(action: Callable[[], None]) -> int:
    """Does it, with one line for what a user can mend; returns the exit status."""
    from imgcls_jax import distributed
    from imgcls_jax.training.interrupt import Interrupted

    try:
        action()
    except UserError as error:
        console.say(f"error: {error}", error=True)
        return distributed.leave(2)
    except KeyboardInterrupt:
        console.say(
            f"Stopped. What was saved is kept. The same command resumes:\n  {console.command_line()}"
        )
        return distributed.leave(INTERRUPTED)
    except Interrupted as stop:
        console.say(
            f"Stopped by {stop}; everything is saved. The same command resumes:\n  {console.command_line()}"
        )
        return stop.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
