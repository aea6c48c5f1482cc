"""One contestant on one task in a process of its own: `python -m benchmarks.worker TASK CONTESTANT`.

Warms up, writes a line, then answers each line on its input, a number of seconds, with a line of JSON: the images
trained on and the seconds that took. Ends with its input. Whatever libraries print goes to stderr.
"""

import json
import os
import resource
import sys
import time

from benchmarks.contestants import CHECKOUT, CONTESTANTS
from benchmarks.tasks import TASKS

LEAST_STEPS = 2


def main(task: str, contestant: str) -> None:
    batch_size = TASKS[task].batch_size
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    if checkout := os.environ.get(CHECKOUT):
        sys.path.insert(0, checkout)
    run = CONTESTANTS[contestant].create(task)
    run(LEAST_STEPS)  # compiles
    seconds, steps = timed(run, LEAST_STEPS)
    seconds, steps = timed(run, max(LEAST_STEPS, round(0.5 * steps / seconds)))
    answers.write(json.dumps({"versions": versions()}) + "\n")
    for line in sys.stdin:
        seconds, steps = timed(run, max(LEAST_STEPS, round(float(line) * steps / seconds)))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux gives KiB
        answer = {"images": steps * batch_size, "seconds": seconds, "peak_mib": peak}
        answers.write(json.dumps(answer) + "\n")


def timed(run, steps: int) -> tuple[float, int]:
    """The seconds that so many steps take, or a few more, and their number."""
    start = time.perf_counter()
    steps = run(steps) or steps
    return time.perf_counter() - start, steps


def versions() -> dict[str, str]:
    """Of the libraries that this process has loaded."""
    names = ("jax", "flax", "keras", "tensorflow", "torch", "numpy")
    return {name: sys.modules[name].__version__ for name in names if name in sys.modules}


if __name__ == "__main__":
    main(*sys.argv[1:])
