"""What a process of this package says on the terminal."""

import logging
import os
import sys

from absl import logging as absl_logging


def set_up() -> None:
    """Shows what the package logs, as it is."""
    log = logging.getLogger("imgcls_jax")
    log.addHandler(logging.StreamHandler())
    log.setLevel(logging.INFO)
    log.propagate = False
    # Orbax writes forty lines a checkpoint, and of an error, which it raises as well, the traceback of each thread.
    absl_logging.set_verbosity(absl_logging.FATAL)


def command_line() -> str:
    """The command line as a user would type it: without the paths of this machine."""
    program, *arguments = sys.argv
    return " ".join(["python", os.path.basename(program), *arguments])
