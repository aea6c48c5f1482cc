"""Seconds from the command to the first trained steps: python -m benchmarks.startup --rounds 5

Starts launch.py in a terminal of its own, waits until its progress bar shows a loss, which it does
after the first dispatch, and stops it there. This is done with empty and with filled caches of data
and of compiled programs, in turn; the caches are in temporary folders. Unknown arguments go to
launch.py, for example --config.data.source=idx. With --before another checkout takes its turn too.
"""

import os
import pty
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

from benchmarks.common import add_before, command_line, machine, progress, spread
from benchmarks.contestants import BEFORE
from benchmarks.processes import ROOT, environment_without

FIRST_STEPS = re.compile(rb"loss [\d.]+, accuracy")  # only the progress bar has it
TERMINAL_SIZE = (40, 200)  # rows and columns
DATA = "data"
COMPILED = "compiled"
# Which caches are filled in each case.
CASES = {
    "both caches empty": (),
    "data cached": (DATA,),
    "programs cached": (COMPILED,),
    "both cached": (DATA, COMPILED),
}


class StartupError(RuntimeError):
    """launch.py ended before its first steps; the message has the end of what it wrote."""


def main(arguments: list[str]) -> None:
    parser = command_line("benchmarks.startup", __doc__)
    parser.add_argument("--config", default="configs/mnist_cnn.py")
    add_before(parser)
    parser.add_argument("--rounds", type=int, default=5)
    options, launch_arguments = parser.parse_known_args(arguments)
    checkouts = {"ours": ROOT}
    if options.before:
        checkouts[BEFORE] = options.before.resolve()
    command = ["--config", options.config, *launch_arguments]
    seconds = measure(checkouts, command, rounds=options.rounds)
    print(f"\n{options.config}, {machine()}; medians of {options.rounds} starts each.\n")
    print(table(seconds))


def measure(
    checkouts: dict[str, Path],
    arguments: list[str],
    *,
    rounds: int,
) -> dict[tuple[str, str], list[float]]:
    """Returns the seconds of each start, by case and name of the checkout."""
    seconds = {(case, name): [] for case in CASES for name in checkouts}
    with tempfile.TemporaryDirectory() as folder:
        # The caches are always used at the same path, which is part of JAX's key of a program.
        caches = Path(folder, "caches")
        for name, checkout in checkouts.items():
            progress(f"filling the caches, {name}")
            start(checkout, arguments, caches)
            caches.rename(Path(folder, name))
        for number in range(1, rounds + 1):
            for case, name in seconds:
                progress(f"round {number} of {rounds}: {case}, {name}")
                for cache in CASES[case]:
                    shutil.copytree(Path(folder, name, cache), caches / cache)
                seconds[case, name].append(start(checkouts[name], arguments, caches))
                shutil.rmtree(caches)
    return seconds


def start(
    checkout: Path,
    arguments: list[str],
    caches: Path,
) -> float:
    """Starts launch.py of a checkout and stops it after its first dispatch.

    Returns the seconds until then. Raises StartupError if it ends before.
    """
    caches.mkdir(exist_ok=True)
    environment = environment_without()
    environment["JAX_COMPILATION_CACHE_DIR"] = str(caches / COMPILED)
    command = [
        sys.executable,
        "launch.py",
        *arguments,
        f"--config.data.cache={caches / DATA}",
        f"--workdir={caches / 'run'}",
    ]
    terminal, other_end = pty.openpty()  # the progress bar needs a terminal
    termios.tcsetwinsize(terminal, TERMINAL_SIZE)
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=checkout,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=other_end,
        stderr=other_end,
    )
    os.close(other_end)
    try:
        wait_for_first_steps(terminal)
        return time.perf_counter() - started
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


def wait_for_first_steps(terminal: int) -> None:
    written = b""
    while not FIRST_STEPS.search(written):
        try:
            written += os.read(terminal, 4096)
        except OSError as error:  # on Linux: the other end is closed
            raise StartupError(written.decode(errors="replace")[-2000:]) from error


def table(seconds: dict[tuple[str, str], list[float]]) -> str:
    rows = [
        "| caches | checkout | seconds to the first steps | of the first start |",
        "| --- | --- | --- | --- |",
    ]
    for (case, name), values in seconds.items():
        cold = statistics.median(seconds["both caches empty", name])
        share = statistics.median(values) / cold
        rows.append(f"| {case} | {name} | {spread(values, 1)} | {share:.2f} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
