"""What a process of this package reads from the command line, and says on the terminal."""

import logging
import os
import shlex
import signal
import sys
import threading

from absl import flags
from absl import logging as absl_logging

from imgcls_jax.errors import UserError, printable

RESENT = 0.05  # seconds after which a Ctrl-C that a callback swallowed is sent again


class _Formatter(logging.Formatter):
    """Lines as they are, but for what a terminal would obey: names in them may come from anywhere."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), keep="\n\t")


def handler() -> logging.Handler:
    """Shows log lines on the terminal."""
    shown = logging.StreamHandler()
    shown.setFormatter(_Formatter())
    return shown


def say(*lines: object, error: bool = False) -> None:
    """Prints lines, to stderr where they are an error's, without what a terminal would obey."""
    for line in lines:
        print(printable(line, keep="\n\t"), file=sys.stderr if error else sys.stdout, flush=True)


def set_up() -> None:
    """Shows what the package logs."""
    log = logging.getLogger("imgcls_jax")
    log.addHandler(handler())
    log.setLevel(logging.INFO)
    log.propagate = False
    # Orbax writes forty lines a checkpoint, and of an error, which it raises as well, the traceback of each thread.
    absl_logging.set_verbosity(absl_logging.FATAL)
    sys.unraisablehook = _print_unraisable


def _print_unraisable(unraisable) -> None:
    """As Python does, without what TensorStore's threads say of each file when a checkpoint cannot be written.

    By then Orbax has raised the error of the first file, and has closed the event loop to which they report. A Ctrl-C
    that came in a callback, such as JAX' of the garbage collection, is lost to the program: it is sent once more.
    """
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        again = threading.Timer(RESENT, os.kill, (os.getpid(), signal.SIGINT))
        again.daemon = True  # whoever ends by then has no need of it
        again.start()
    elif str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


def parse_flags(argv: list[str]) -> list[str]:
    """absl's parser, with an error of one line for what it, or ml_collections, refuses."""
    try:
        return flags.FLAGS(argv)
    except UserError as error:
        say(f"error: {error}", error=True)
        sys.exit(2)
    except (
        flags.Error,
        AttributeError,
        ImportError,
        KeyError,
        OSError,
        SyntaxError,
        TypeError,
        ValueError,
    ) as error:
        said, cause = str(error), error.args[0] if error.args else None
        if isinstance(cause, KeyError):  # of ml_collections, for an option that there is not
            said = f"there is no option {cause.args[0]}"
        said = " ".join(said.split())
        say(
            f"error: {said}; python launch.py --help, and configs/base.py, have all options",
            error=True,
        )
        sys.exit(2)


def command_line() -> str:
    """The command line as a user would type it: quoted for a shell, without the paths of this machine."""
    path, *arguments = sys.argv
    program = ["python", os.path.basename(path)]
    if os.path.basename(path) == "__main__.py":
        program = ["python", "-m", os.path.basename(os.path.dirname(path))]
    elif not path.endswith(".py"):
        program = [os.path.basename(path)]
    return printable(shlex.join([*program, *arguments]))
