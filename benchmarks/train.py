"""Images trained on in a second, ours beside its peers: python -m benchmarks.train --models cnn --peers keras,torch"""

import argparse
import contextlib
import datetime
import json
import os
import platform
import random
import shlex
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.contestants import BEFORE, CHECKOUT, CONTESTANTS
from benchmarks.processes import ROOT, Worker
from benchmarks.tasks import TASKS

OURS = "ours"  # the product's own path: every ratio is against it

Rates = dict[str, list[float]]  # images/s of each contestant, round by round


def main(arguments: list[str]) -> None:
    options = parse(arguments)
    names = with_before(available([*options.ours, *options.peers]), options.before)
    results: dict[str, Rates] = {}
    versions: dict[str, str] = {}
    for task in options.models:
        able = [name for name in names if CONTESTANTS[name].takes(TASKS[task])]
        results[task], found = measure(task, able, rounds=options.rounds, seconds=options.seconds)
        versions |= found
        print("\n" + table({task: results[task]}), flush=True)
    record = {
        "machine": machine(),
        "versions": versions,
        "command": shlex.join(["python", "-m", "benchmarks.train", *arguments]),
        "date": datetime.date.today().isoformat(),
        "images_per_second": results,
    }
    stem = options.output or ROOT / "benchmarks" / "results" / f"train-{record['date']}"
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    stem.with_suffix(".md").write_text(markdown(record))
    print(f"\n{markdown(record)}\nSaved as {stem}.json and {stem}.md.")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train", description=__doc__)
    ours = [name for name in CONTESTANTS if name.startswith(OURS)]
    peers = [name for name in CONTESTANTS if name not in (*ours, BEFORE)]
    parser.add_argument(
        "--models", type=names_in(TASKS), default=list(TASKS), help=f"of {', '.join(TASKS)}"
    )
    parser.add_argument(
        "--peers", type=names_in(peers), default=peers, help=f"of {', '.join(peers)}; '' for none"
    )
    parser.add_argument("--ours", type=names_in(ours), default=ours, help=f"of {', '.join(ours)}")
    add_before(parser)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="of each contestant's training in each round"
    )
    parser.add_argument("--output", type=Path, help="path of the results, without a suffix")
    options = parser.parse_args(arguments)
    if OURS not in options.ours:
        parser.error(f"--ours needs {OURS} among its names: all ratios are against it")
    return options


def add_before(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--before", type=Path, metavar="FOLDER", help="a checkout of another commit, measured too"
    )


def with_before(names: list[str], checkout: Path | None) -> list[str]:
    """The names and, where a checkout is given, BEFORE, whose processes then take its package."""
    if checkout is None:
        return names
    os.environ[CHECKOUT] = str(checkout.resolve())
    return [*names, BEFORE]


def names_in(known):
    """The type of an option that takes names of `known`, separated by commas."""

    def parse(text: str) -> list[str]:
        names = [name for name in text.split(",") if name]
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(
                    f"there is no {name!r}; choose from {', '.join(known)}"
                )
        return names

    return parse


def available(names: list[str]) -> list[str]:
    """Those whose packages are installed; says which are left out."""
    for name in names:
        if missing := CONTESTANTS[name].missing():
            print(
                f"{name} is left out: {', '.join(missing)} not installed (pip install -r requirements-bench.txt)."
            )
    return [name for name in names if not CONTESTANTS[name].missing()]


def measure(
    task: str, names: list[str], *, rounds: int, seconds: float
) -> tuple[Rates, dict[str, str]]:
    """Warms all contestants up, then measures them in turn, in a new order each round. Also their versions."""
    shuffled = random.Random(0)
    rates: Rates = {name: [] for name in names}
    versions: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        workers = {}
        for name in names:  # one after the other: no warm-up disturbs another
            progress(f"{task}: warming up {name}")
            workers[name] = stack.enter_context(Worker(task, name))
            versions |= workers[name].ready()
        for round in range(rounds):
            for name in shuffled.sample(names, len(names)):
                progress(f"{task}: round {round + 1} of {rounds}, {name}")
                answer = workers[name].measure(seconds)
                rates[name].append(answer["images"] / answer["seconds"])
    return rates, versions


def progress(text: str) -> None:
    """Where it stands: on one line of a terminal, else a line each."""
    start, end = ("\r\033[K", "") if sys.stderr.isatty() else ("", "\n")
    print(f"{start}{time.strftime('%H:%M:%S')} {text}", end=end, file=sys.stderr, flush=True)


def spread(values: list[float], digits: int) -> str:
    """Median (least to most)."""
    middle, least, most = (
        f"{value:,.{digits}f}" for value in (statistics.median(values), min(values), max(values))
    )
    return f"{middle} ({least} to {most})"


def ratios(rates: Rates, name: str) -> list[float]:
    """How many times as fast ours is, paired within each round."""
    return [ours / other for ours, other in zip(rates[OURS], rates[name], strict=True)]


def table(results: dict[str, Rates]) -> str:
    """A row for each model, a column for each contestant, as Markdown: its images/s, and ours as a multiple of it."""
    names = list(dict.fromkeys(name for rates in results.values() for name in rates))
    rows = [f"| model | {' | '.join(names)} |", "| --- |" + " ---: |" * len(names)]
    for task, rates in results.items():
        cells = [cell(rates, name) if name in rates else "" for name in names]
        rows.append(f"| {task} ({TASKS[task].batch_size}) | {' | '.join(cells)} |")
    return "\n".join(rows)


def cell(rates: Rates, name: str) -> str:
    """Images/s of a contestant; of others than ours the median, and how many times as fast ours is."""
    digits = 0 if min(rates[name]) >= 100 else 1
    if name == OURS:
        return spread(rates[name], digits)
    return f"{statistics.median(rates[name]):,.{digits}f}: {spread(ratios(rates, name), 2)}"


def markdown(record: dict[str, Any]) -> str:
    rounds = len(next(iter(next(iter(record["images_per_second"].values())).values())))
    versions = ", ".join(
        f"{name} {version}" for name, version in sorted(record["versions"].items())
    )
    return (
        f"Measured on {record['date']}: {record['machine']}; {versions}. Images/s, medians of {rounds} rounds; after a "
        "colon, how many times as fast ours is, with least and most: taken within a round. In brackets after the "
        "model: batch size.\n\n"
        f"    {record['command']}\n\n{table(record['images_per_second'])}\n"
    )


def machine() -> str:
    """This machine in words."""
    from imgcls_jax import backend

    facts = backend.describe()
    return f"{facts['device']}, {facts['cpu_cores']} cores, {platform.system()}, Python {facts['python']}"


if __name__ == "__main__":
    main(sys.argv[1:])
