"""One contestant on one task in its own process: `python -m benchmarks.worker TASK CONTESTANT`.

Warms up and writes a line. Then it answers each line of its input, a number of seconds, with a line
of JSON: images trained on, the seconds that took, and peak memory. It ends with its input. Whatever
libraries print goes to stderr.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path

import benchmarks
from benchmarks.contestants import CHECKOUT, CONTESTANTS, Run
from benchmarks.tasks import TASKS

MIN_STEPS = 2
WARM_UP_SECONDS = 0.5
LIBRARIES = ("jax", "flax", "keras", "tensorflow", "torch", "numpy")


def main(task: str, contestant: str) -> None:
    batch_size = TASKS[task].batch_size
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    use_checkout()
    run = CONTESTANTS[contestant].create(task)
    run(MIN_STEPS)  # compiles
    seconds, steps = timed(run, MIN_STEPS)
    seconds, steps = timed(run, steps_in(WARM_UP_SECONDS, seconds / steps))
    answers.write(json.dumps({"versions": versions()}) + "\n")
    for line in sys.stdin:
        seconds, steps = timed(run, steps_in(float(line), seconds / steps))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux gives KiB
        answer = {"images": steps * batch_size, "seconds": seconds, "peak_mib": peak}
        answers.write(json.dumps(answer) + "\n")


def use_checkout() -> None:
    """Puts the checkout named in the environment, if any, before this one.

    Its own way to train, benchmarks/ours.py, is used if it has one.
    """
    checkout = os.environ.get(CHECKOUT)
    if checkout:
        sys.path.insert(0, checkout)
        benchmarks.__path__.insert(0, str(Path(checkout, "benchmarks")))


def steps_in(seconds: float, per_step: float) -> int:
    """Returns how many steps take about `seconds`."""
    return max(MIN_STEPS, round(seconds / per_step))


def timed(run: Run, steps: int) -> tuple[float, int]:
    """Runs at least `steps` steps; returns the seconds they took and their number."""
    start = time.perf_counter()
    steps = run(steps) or steps
    return time.perf_counter() - start, steps


def versions() -> dict[str, str]:
    """Returns the versions of the libraries that this process has loaded."""
    return {name: sys.modules[name].__version__ for name in LIBRARIES if name in sys.modules}


if __name__ == "__main__":
    main(*sys.argv[1:])
