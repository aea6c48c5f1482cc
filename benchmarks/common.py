"""What the benchmarks share: options of the command line, progress, and figures as text."""

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path

from benchmarks.contestants import BEFORE, CHECKOUT, CONTESTANTS

Rates = dict[str, list[float]]  # a figure of each contestant or case, round by round


def command_line(module: str, description: str) -> argparse.ArgumentParser:
    """Returns a parser for `python -m MODULE`. description: the module's docstring."""
    summary, *_ = description.splitlines()
    return argparse.ArgumentParser(prog=f"python -m {module}", description=summary)


def add_before(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--before",
        type=Path,
        metavar="FOLDER",
        help="a checkout of another commit, measured too",
    )


def with_before(names: list[str], checkout: Path | None) -> list[str]:
    """Returns the contestants and, if there is a checkout, BEFORE, whose processes then use it."""
    if checkout is None:
        return names
    os.environ[CHECKOUT] = str(checkout.resolve())
    return [*names, BEFORE]


def names_in(choices: Collection[str]) -> Callable[[str], list[str]]:
    """Returns the argparse type of an option that takes names of `choices`, comma-separated."""

    def parse(text: str) -> list[str]:
        names = [name for name in text.split(",") if name]
        for name in names:
            if name not in choices:
                raise argparse.ArgumentTypeError(
                    f"there is no {name!r}; choose from {', '.join(choices)}"
                )
        return names

    return parse


def available(names: list[str]) -> list[str]:
    """Returns the contestants whose packages are installed, and says which are left out."""
    installed = []
    for name in names:
        missing = CONTESTANTS[name].missing()
        if missing:
            print(
                f"{name} is left out: {', '.join(missing)} not installed "
                "(pip install -r requirements-bench.txt)."
            )
        else:
            installed.append(name)
    return installed


def progress(text: str) -> None:
    """Says what is being done: on one line of a terminal, otherwise on a line each."""
    start, end = "", "\n"
    if sys.stderr.isatty():
        start, end = "\r\033[K", ""
    clock = time.strftime("%H:%M:%S")
    print(f"{start}{clock} {text}", end=end, file=sys.stderr, flush=True)


def spread(values: list[float], digits: int) -> str:
    """Returns "median (least to most)"."""
    median = f"{statistics.median(values):,.{digits}f}"
    least = f"{min(values):,.{digits}f}"
    most = f"{max(values):,.{digits}f}"
    return f"{median} ({least} to {most})"


def digits_of(rates: list[float]) -> int:
    """Returns how many digits after the point a table shows of images/s."""
    if min(rates) < 100:
        return 1
    return 0


def machine() -> str:
    """Returns a description of this machine."""
    from imgcls_jax import backend

    facts = backend.describe()
    device = facts["device"]
    cores = facts["cpu_cores"]
    return f"{device}, {cores} cores, {platform.system()}, Python {facts['python']}"
