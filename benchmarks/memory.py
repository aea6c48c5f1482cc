"""Peak memory of training processes: python -m benchmarks.memory --models cnn --peers keras,torch,jax_naive

Resident memory at its highest, in MiB, of a contestant's process after warm-up and a few seconds of training:
libraries, data (50,000 synthetic images), compiled programs and activations together.
"""

import argparse
import statistics
import sys

from benchmarks.contestants import BEFORE, CONTESTANTS
from benchmarks.processes import Worker
from benchmarks.tasks import TASKS
from benchmarks.train import add_before, available, machine, names_in, progress, spread, with_before


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.memory", description=__doc__.splitlines()[0]
    )
    peers = [name for name in CONTESTANTS if name not in ("ours", BEFORE)]
    parser.add_argument("--models", type=names_in(TASKS), default=["cnn"])
    parser.add_argument("--peers", type=names_in(peers), default=["jax_naive", "keras", "torch"])
    add_before(parser)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of training in each round")
    options = parser.parse_args(arguments)
    names = with_before(available(["ours", *options.peers]), options.before)
    print(f"{machine()}; medians of {options.rounds} processes each.\n")
    print("| model | contestant | peak MiB | of ours |\n| --- | --- | --- | --- |")
    for task in options.models:
        able = [name for name in names if CONTESTANTS[name].takes(TASKS[task])]
        peaks = {
            name: [peak(task, name, options.seconds) for _ in range(options.rounds)]
            for name in able
        }
        ours = statistics.median(peaks["ours"])
        for name, values in peaks.items():
            print(
                f"| {task} | {name} | {spread(values, 0)} | {statistics.median(values) / ours:.2f} |",
                flush=True,
            )


def peak(task: str, contestant: str, seconds: float) -> float:
    """MiB, of a new process."""
    progress(f"{task}: {contestant}")
    with Worker(task, contestant) as worker:
        worker.ready()
        return worker.measure(seconds)["peak_mib"]


if __name__ == "__main__":
    main(sys.argv[1:])
