"""Peak memory of training processes: python -m benchmarks.memory --models cnn --peers keras,torch

The highest resident memory, in MiB, of a contestant's process after warm-up and a few seconds of
training: libraries, data (50,000 synthetic images), compiled programs and activations together.
"""

import statistics
import sys

from benchmarks.common import (
    add_before,
    available,
    command_line,
    machine,
    names_in,
    progress,
    spread,
    with_before,
)
from benchmarks.contestants import BEFORE, CONTESTANTS
from benchmarks.processes import Worker
from benchmarks.tasks import TASKS


def main(arguments: list[str]) -> None:
    parser = command_line("benchmarks.memory", __doc__)
    peers = [name for name in CONTESTANTS if name not in ("ours", BEFORE)]
    default_peers = ["jax_naive", "keras", "torch"]
    parser.add_argument("--models", type=names_in(TASKS), default=["cnn"])
    parser.add_argument("--peers", type=names_in(peers), default=default_peers)
    add_before(parser)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of training in each round")
    options = parser.parse_args(arguments)
    names = with_before(available(["ours", *options.peers]), options.before)
    print(f"{machine()}; medians of {options.rounds} processes each.\n")
    print("| model | contestant | peak MiB | of ours |\n| --- | --- | --- | --- |")
    for task in options.models:
        able = [name for name in names if CONTESTANTS[name].takes(TASKS[task])]
        peaks = {name: measure(task, name, options.rounds, options.seconds) for name in able}
        ours = statistics.median(peaks["ours"])
        for name, values in peaks.items():
            ratio = statistics.median(values) / ours
            print(f"| {task} | {name} | {spread(values, 0)} | {ratio:.2f} |", flush=True)


def measure(
    task: str,
    contestant: str,
    rounds: int,
    seconds: float,
) -> list[float]:
    """Returns the peak memory in MiB of as many processes as there are rounds."""
    peaks = []
    for _ in range(rounds):
        progress(f"{task}: {contestant}")
        with Worker(task, contestant) as worker:
            worker.ready()
            peaks.append(worker.measure(seconds)["peak_mib"])
    return peaks


if __name__ == "__main__":
    main(sys.argv[1:])
