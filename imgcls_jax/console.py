"""What a process of this package says on the terminal."""

import logging
import sys

from absl import app
from absl import logging as absl_logging


def set_up() -> None:
    """Shows what the package logs, as it is."""
    log = logging.getLogger("imgcls_jax")
    log.addHandler(logging.StreamHandler())
    log.setLevel(logging.INFO)
    log.propagate = False
    absl_logging.set_verbosity(absl_logging.ERROR)  # Orbax writes forty lines a checkpoint


def parse_flags(argv: list[str]) -> list[str]:
    """absl's parser, with an error of one line for what ml_collections refuses."""
    try:
        return app.parse_flags_with_usage(argv)
    except (AttributeError, FileNotFoundError, KeyError, TypeError, ValueError, SyntaxError) as error:
        print(f"error: {error}\nAll options stand in configs/base.py.", file=sys.stderr)
        sys.exit(2)
