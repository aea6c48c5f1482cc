"""Reads the command line of a process of this package, and prints to the terminal."""

import contextlib
import logging
import os
import select
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from typing import NoReturn

from absl import flags
from absl import logging as absl_logging

from imgcls_jax.errors import UserError, printable

INTERRUPT_DELAY = 0.05  # seconds after which a Ctrl-C that a callback swallowed is sent again
NO_READER = 141  # the exit status, as shells have it, where lines went to a `head` that has ended
# What absl and ml_collections raise for flags that they refuse.
FLAG_ERRORS = (
    flags.Error,
    AttributeError,
    ImportError,
    KeyError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
)


class _Formatter(logging.Formatter):
    """Escapes what a terminal would obey: names in a line may come from anywhere."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), keep="\n\t")


def handler() -> logging.Handler:
    """Returns a handler that shows log lines on the terminal."""
    stream = logging.StreamHandler()
    stream.setFormatter(_Formatter())
    return stream


def say(*lines: object, error: bool = False) -> None:
    """Prints lines to stdout, or errors to stderr, with what a terminal would obey escaped."""
    file = sys.stderr if error else sys.stdout
    for line in lines:
        print(printable(line, keep="\n\t"), file=file, flush=True)


@contextlib.contextmanager
def interrupts_wait() -> Iterator[None]:
    """Inside, a Ctrl-C waits until the end: JAX can crash where one comes while it is imported."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # nothing here is interrupted
        return
    received: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if received:
        raise KeyboardInterrupt


def reader_is_gone() -> bool:
    """Returns whether stdout is a pipe that nobody reads any more; from then on it goes nowhere."""
    if not hasattr(select, "poll"):  # Windows
        return False
    poll = select.poll()
    poll.register(sys.stdout, 0)
    if not poll.poll(0):
        return False
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())  # Python flushes it once more at its end
    return True


def set_up() -> None:
    """Shows what the package logs."""
    log = logging.getLogger("imgcls_jax")
    log.addHandler(handler())
    log.setLevel(logging.INFO)
    log.propagate = False
    # Orbax logs forty lines for each checkpoint. On an error, which it raises as well, it logs the
    # traceback of every thread.
    absl_logging.set_verbosity(absl_logging.FATAL)
    sys.unraisablehook = _print_unraisable


def _print_unraisable(unraisable) -> None:
    """Prints as Python does, except for two cases.

    A Ctrl-C during a callback, such as JAX's of the garbage collection, is lost to the program: it
    is sent again. When a checkpoint cannot be written, TensorStore's threads complain of each file
    that their event loop is closed: Orbax has raised the error by then, so this is not printed.
    """
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        timer = threading.Timer(INTERRUPT_DELAY, os.kill, (os.getpid(), signal.SIGINT))
        timer.daemon = True  # it must not keep a process alive that ends anyway
        timer.start()
    elif str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


def parse_flags(argv: list[str]) -> list[str]:
    """Parses absl's flags. Prints one line and exits with status 2 if they are refused."""
    try:
        return flags.FLAGS(argv)
    except UserError as error:
        _exit(str(error))
    except FLAG_ERRORS as error:
        if isinstance(error, BrokenPipeError) and reader_is_gone():  # of --help
            sys.exit(NO_READER)
        text = " ".join(_flag_error_text(error).split())
        _exit(f"{text}; python launch.py --help, and configs/base.py, list all options")


def _flag_error_text(error: Exception) -> str:
    # ml_collections raises an error with a KeyError in it for an option that does not exist.
    if error.args and isinstance(error.args[0], KeyError):
        return f"there is no option {error.args[0].args[0]}"
    return str(error)


def _exit(message: str) -> NoReturn:
    say(f"error: {message}", error=True)
    sys.exit(2)


def command_line() -> str:
    """Returns the command line as a user would type it.

    It is quoted for a shell and does not show the paths of this machine.
    """
    path, *arguments = sys.argv
    name = os.path.basename(path)
    if name == "__main__.py":
        package = os.path.basename(os.path.dirname(path))
        program = ["python", "-m", package]
    elif path.endswith(".py"):
        program = ["python", name]
    else:
        program = [name]
    return printable(shlex.join([*program, *arguments]))
