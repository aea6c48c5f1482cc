"""Images trained on per second, ours beside its peers.

python -m benchmarks.train --models cnn --peers keras,torch
"""

import argparse
import contextlib
import datetime
import json
import random
import shlex
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.common import (
    Rates,
    add_before,
    available,
    command_line,
    digits_of,
    machine,
    names_in,
    progress,
    spread,
    with_before,
)
from benchmarks.contestants import BEFORE, CONTESTANTS
from benchmarks.processes import ROOT, Worker
from benchmarks.tasks import TASKS

OURS = "ours"  # the product's own path: every ratio is against it


def main(arguments: list[str]) -> None:
    options = parse(arguments)
    installed = available([*options.ours, *options.peers])
    names = with_before(installed, options.before)
    results: dict[str, Rates] = {}
    versions: dict[str, str] = {}
    for task in options.models:
        able = [name for name in names if CONTESTANTS[name].takes(TASKS[task])]
        results[task], task_versions = measure(
            task, able, rounds=options.rounds, seconds=options.seconds
        )
        versions |= task_versions
        print("\n" + table({task: results[task]}), flush=True)
    record = {
        "machine": machine(),
        "versions": versions,
        "command": shlex.join(["python", "-m", "benchmarks.train", *arguments]),
        "date": datetime.date.today().isoformat(),
        "images_per_second": results,
    }
    stem = options.output
    if stem is None:
        stem = ROOT / "benchmarks" / "results" / f"train-{record['date']}"
    save(record, stem)


def save(record: dict[str, Any], stem: Path) -> None:
    """Writes the record to STEM.json and its table to STEM.md, and prints it."""
    text = markdown(record)
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    stem.with_suffix(".md").write_text(text)
    print(f"\n{text}\nSaved as {stem}.json and {stem}.md.")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = command_line("benchmarks.train", __doc__)
    ours = [name for name in CONTESTANTS if name.startswith(OURS)]
    peers = [name for name in CONTESTANTS if name not in (*ours, BEFORE)]
    parser.add_argument(
        "--models",
        type=names_in(TASKS),
        default=list(TASKS),
        help=f"of {', '.join(TASKS)}",
    )
    parser.add_argument(
        "--peers",
        type=names_in(peers),
        default=peers,
        help=f"of {', '.join(peers)}; '' for none",
    )
    parser.add_argument(
        "--ours",
        type=names_in(ours),
        default=ours,
        help=f"of {', '.join(ours)}",
    )
    add_before(parser)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--seconds",
        type=float,
        default=4.0,
        help="of each contestant's training in each round",
    )
    parser.add_argument("--output", type=Path, help="path of the results, without a suffix")
    options = parser.parse_args(arguments)
    if OURS not in options.ours:
        parser.error(f"--ours needs {OURS} among its names: all ratios are against it")
    return options


def measure(
    task: str,
    names: list[str],
    *,
    rounds: int,
    seconds: float,
) -> tuple[Rates, dict[str, str]]:
    """Warms all contestants up, then measures them in turn, in a new order each round.

    Returns images per second of each contestant, and the versions of their libraries.
    """
    rng = random.Random(0)
    rates: Rates = {name: [] for name in names}
    versions: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        workers = {}
        for name in names:  # one after the other, so that no warm-up disturbs another
            progress(f"{task}: warming up {name}")
            workers[name] = stack.enter_context(Worker(task, name))
            versions |= workers[name].ready()
        for number in range(1, rounds + 1):
            for name in rng.sample(names, len(names)):
                progress(f"{task}: round {number} of {rounds}, {name}")
                answer = workers[name].measure(seconds)
                rates[name].append(answer["images"] / answer["seconds"])
    return rates, versions


def ratios(rates: Rates, name: str) -> list[float]:
    """Returns how many times as fast ours is as `name`, within each round."""
    pairs = zip(rates[OURS], rates[name], strict=True)
    return [ours / other for ours, other in pairs]


def table(results: dict[str, Rates]) -> str:
    """Returns a Markdown table: a row for each model, a column for each contestant (see `cell`)."""
    names = list(dict.fromkeys(name for rates in results.values() for name in rates))
    head = f"| model | {' | '.join(names)} |"
    alignment = "| --- |" + " ---: |" * len(names)
    rows = [head, alignment]
    for task, rates in results.items():
        cells = [cell(rates, name) for name in names]
        batch_size = TASKS[task].batch_size
        rows.append(f"| {task} ({batch_size}) | {' | '.join(cells)} |")
    return "\n".join(rows)


def cell(rates: Rates, name: str) -> str:
    """Returns images/s of ours; for others their median and how many times as fast ours is."""
    if name not in rates:
        return ""
    digits = digits_of(rates[name])
    if name == OURS:
        return spread(rates[name], digits)
    median = statistics.median(rates[name])
    return f"{median:,.{digits}f}: {spread(ratios(rates, name), 2)}"


def markdown(record: dict[str, Any]) -> str:
    results = record["images_per_second"]
    first_rates, *_ = [values for rates in results.values() for values in rates.values()]
    library_versions = sorted(record["versions"].items())
    versions = ", ".join(f"{name} {version}" for name, version in library_versions)
    return (
        f"Measured on {record['date']}: {record['machine']}; {versions}. "
        f"Images/s, medians of {len(first_rates)} rounds; after a colon, how many times as fast "
        "ours is, with least and most: taken within a round. In brackets after the model: batch "
        "size.\n\n"
        f"    {record['command']}\n\n{table(results)}\n"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
