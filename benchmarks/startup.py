"""Seconds from the command to the first trained steps: python -m benchmarks.startup --rounds 5

Starts launch.py in a terminal of its own, waits until its progress bar shows a loss, which it does after the first
dispatch, and stops it there. Done with empty and with filled caches of data and of compiled programs, in turn; the
caches lie in temporary folders. Arguments that are not known here go to launch.py, such as --config.data.source=idx.
With --before another checkout takes its turn as well.
"""

import argparse
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

from benchmarks.contestants import BEFORE
from benchmarks.processes import NOT_INHERITED, ROOT
from benchmarks.train import add_before, machine, progress, spread

FIRST_STEPS = re.compile(rb"loss [\d.]+, accuracy")  # of the progress bar alone
DATA, COMPILED = "data", "compiled"
CASES = {  # which caches are filled
    "both caches empty": (),
    "data cached": (DATA,),
    "programs cached": (COMPILED,),
    "both cached": (DATA, COMPILED),
}


class StartupError(RuntimeError):
    """launch.py ended before its first steps, with the end of what it wrote."""


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.startup", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--config", default="configs/mnist_cnn.py")
    add_before(parser)
    parser.add_argument("--rounds", type=int, default=5)
    options, more = parser.parse_known_args(arguments)
    checkouts = {"ours": ROOT} | ({BEFORE: options.before.resolve()} if options.before else {})
    seconds: dict[tuple[str, str], list[float]] = {
        (case, name): [] for case in CASES for name in checkouts
    }
    with tempfile.TemporaryDirectory() as folder:
        # The caches are always used at the same place: it is part of what JAX finds a compiled program by.
        caches = Path(folder, "caches")
        for name, checkout in checkouts.items():
            progress(f"filling the caches, {name}")
            start(options.config, caches, more, checkout)
            caches.rename(Path(folder, name))
        for round in range(options.rounds):
            for case, name in seconds:
                progress(f"round {round + 1} of {options.rounds}: {case}, {name}")
                for cache in CASES[case]:
                    shutil.copytree(Path(folder, name, cache), caches / cache)
                seconds[case, name].append(start(options.config, caches, more, checkouts[name]))
                shutil.rmtree(caches)
    print(f"\n{options.config}, {machine()}; medians of {options.rounds} starts each.\n")
    print(
        "| caches | checkout | seconds to the first steps | of the first start |\n| --- | --- | --- | --- |"
    )
    for (case, name), values in seconds.items():
        share = statistics.median(values) / statistics.median(seconds["both caches empty", name])
        print(f"| {case} | {name} | {spread(values, 1)} | {share:.2f} |")


def start(config: str, caches: Path, more: list[str], checkout: Path) -> float:
    """Starts a run of a checkout and ends it after its first dispatch: the seconds until then."""
    caches.mkdir(exist_ok=True)
    environment = {key: value for key, value in os.environ.items() if key not in NOT_INHERITED}
    environment["JAX_COMPILATION_CACHE_DIR"] = str(caches / COMPILED)
    command = [
        sys.executable,
        "launch.py",
        "--config",
        config,
        f"--config.data.cache={caches / DATA}",
    ]
    terminal, its_end = pty.openpty()  # only a terminal gets a progress bar
    termios.tcsetwinsize(terminal, (40, 200))
    started = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--workdir", str(caches / "run"), *more],
        cwd=checkout,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=its_end,
        stderr=its_end,
    )
    os.close(its_end)
    written = b""
    try:
        while not FIRST_STEPS.search(written):
            try:
                written += os.read(terminal, 4096)
            except OSError as error:  # Linux' way to say that the other end is closed
                raise StartupError(written.decode(errors="replace")[-2000:]) from error
        return time.perf_counter() - started
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


if __name__ == "__main__":
    main(sys.argv[1:])
