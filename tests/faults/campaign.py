"""The fault campaign: training as storage is tested. `make faults`, or

    python -m tests.faults.campaign --kills 120 --studies 2 --writers 3 --races 1 --seed 0

Runs are killed at random moments of every stage and started again until they are finished, studies too, and so is every
command that writes into run folders; pairs of commands race for one folder; every fault of tests/faults/faults.py is
tried once. What comes out must equal, to the bit, what comes out undisturbed. Prints
the figures, writes them to --json, and exits with status 1 where anything was lost.
"""

import argparse
import functools
import json
import os
import platform
import random
import sys
import tempfile
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tests.faults import faults, kills, outcome, writers
from tests.faults.kills import STAGES, STUDY_STAGES, Kill

# Of a chain of kills: each start goes on where the one before was killed.
AIMS = (
    "start-up",
    *("training", "checkpointing") * 3,
    "start-up",
    *("evaluation",) * 2,
    *("report",) * 3,
)
STUDY_AIMS = (*(STUDY_STAGES[0],) * 3, *(STUDY_STAGES[1],) * 2)


class Campaign:
    """What has been tried so far, and what was lost."""

    def __init__(self, folder: Path, seed: int):
        self.folder, self.draw = folder, random.Random(seed)
        self.kills: list[Kill] = []
        self.faults: list[str] = []
        self.races: list[str] = []
        self.skipped: dict[str, str] = {}
        self.losses: dict[str, str] = {}

    def kill_runs(self, count: int) -> None:
        """Kills runs, in chains of AIMS, until there are `count` kills."""
        lengths, expected = self.undisturbed()
        with tqdm(total=count, desc="kills", unit="kill", mininterval=2) as bar:
            for number in range(count):
                if len(self.kills) >= count:
                    break
                run = self.folder / f"chain{number}"
                found = self._without_loss(
                    run.name,
                    lambda run=run: kills.kill_run(run, AIMS, draw=self.draw, lengths=lengths),
                )
                if found is not None:
                    self._without_loss(run.name, lambda run=run: _same(expected, outcome.of(run)))
                self.kills += found or []
                bar.update(len(found or []))

    def kill_studies(self, count: int) -> None:
        """Kills so many studies, in chains of STUDY_AIMS."""
        whole = self.folder / "study"
        lengths = kills.undisturbed(whole, "tiny_study")
        runs = [path.name for path in whole.iterdir() if path.is_dir()]
        lengths[STUDY_STAGES[0]] = 4.0  # about as long as a run takes
        expected = {"table.csv": outcome.of_table(whole)} | {
            name: outcome.of(whole / name) for name in runs
        }
        for number in tqdm(range(count), desc="studies", unit="study", mininterval=2):
            study = self.folder / f"study{number}"
            found = self._without_loss(
                study.name,
                lambda study=study: kills.kill_study(
                    study, STUDY_AIMS, draw=self.draw, lengths=lengths
                ),
            )
            self.kills += found or []
            if found is not None:
                self._without_loss(
                    study.name,
                    lambda study=study: _same(
                        expected,
                        {"table.csv": outcome.of_table(study)}
                        | {name: outcome.of(study / name) for name in runs},
                    ),
                )

    def kill_writers(self, count: int) -> None:
        """Kills each command that writes into run folders so often, and has pairs of them race for one folder."""
        tried = self._writers
        for name in tqdm(writers.WRITERS, desc="commands", unit="command", mininterval=2):
            found = self._without_loss(
                name, lambda name=name: tried.kill(name, count, draw=self.draw)
            )
            self.kills += found or []

    def race(self, rounds: int) -> None:
        """Has pairs of commands, and of trainings of two configs, race for one folder."""
        tried, (_, expected) = self._writers, self.undisturbed()
        outcomes = [expected, outcome.of(tried.other)]
        for number in tqdm(range(rounds), desc="races", unit="round", mininterval=2):
            name, run = f"trainings race {number}", self.folder / f"trainings{number}"
            self._without_loss(
                name, lambda run=run: writers.race_trainings(run, outcomes, draw=self.draw)
            )
            self.races.append(name)
            for first, second in writers.RACES:
                name = f"{first} and {second} {number}"
                self._without_loss(
                    name,
                    lambda pair=(first, second), n=number: tried.race(
                        *pair, draw=self.draw, number=n
                    ),
                )
                self.races.append(name)

    def try_faults(self) -> None:
        _, expected = self.undisturbed()
        begun = self.folder / "begun"
        faults.begin(begun)
        for name, fault in tqdm(faults.FAULTS.items(), desc="faults", unit="fault", mininterval=2):
            case = faults.Case(
                self.folder / name.replace(" ", "-"), self.folder / "whole", begun, expected
            )
            try:
                self._without_loss(name, lambda fault=fault, case=case: fault(case))
                self.faults.append(name)
            except faults.Impossible as reason:
                self.skipped[name] = str(reason)

    @functools.cached_property
    def _writers(self) -> writers.Writers:
        _, expected = self.undisturbed()
        return writers.Writers(self.folder / "writers", self.folder / "whole", expected)

    def undisturbed(self) -> tuple[dict[str, float], dict[str, Any]]:
        """The seconds that the last stages of an undisturbed run took, and its outcome."""
        if not hasattr(self, "_undisturbed"):
            kills.finish(
                kills.Launched(kills.arguments(self.folder / "first"), self.folder / "first.txt")
            )
            lengths = kills.undisturbed(self.folder / "whole")  # with its programs compiled
            self._undisturbed = lengths, outcome.of(self.folder / "whole")
        return self._undisturbed

    def _without_loss(self, name: str, action) -> Any:
        try:
            return action()
        except faults.Impossible:
            raise
        except Exception as loss:  # whatever it is, the campaign goes on
            self.losses[name] = f"{type(loss).__name__}: {loss}"
            tqdm.write(f"LOST: {name}: {self.losses[name]}")
            return None

    def figures(self) -> dict[str, Any]:
        return {
            "kills": len(self.kills),
            "kills_by_stage": dict(Counter(kill.stage for kill in self.kills)),
            "kills_by_signal": dict(Counter(kill.signal for kill in self.kills)),
            "faults": self.faults,
            "races": len(self.races),
            "skipped": self.skipped,
            "losses": self.losses,
        }


def _same(expected: dict[str, Any], found: dict[str, Any]) -> None:
    if differs := outcome.differences(expected, found):
        raise kills.Loss(f"{', '.join(differs)} are not those of an undisturbed run")


def describe(figures: dict[str, Any]) -> str:
    """The figures as a table in Markdown, and what was lost."""
    known = (*STAGES, *STUDY_STAGES, *(f"imgcls {name}" for name in writers.WRITERS))
    stages = [stage for stage in known if stage in figures["kills_by_stage"]]
    rows = [
        *(f"| killed in {stage} | {figures['kills_by_stage'][stage]} |" for stage in stages),
        f"| kills in all | {figures['kills']} |",
        f"| races of two commands on one folder | {figures['races']} |",
        f"| other faults | {len(figures['faults'])} |",
        f"| losses | {len(figures['losses'])} |",
    ]
    signals = ", ".join(
        f"{count} {name}" for name, count in sorted(figures["kills_by_signal"].items())
    )
    others = [
        *(f"not tried: {name} ({reason})" for name, reason in figures["skipped"].items()),
        *(f"LOST: {name}: {loss}" for name, loss in figures["losses"].items()),
    ]
    return "\n".join(["| | |", "| --- | ---: |", *rows, "", f"Signals: {signals}.", *others])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=120, help="of runs, at least")
    parser.add_argument("--studies", type=int, default=2, help="that are killed five times each")
    parser.add_argument(
        "--faults",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="try each of them once",
    )
    parser.add_argument(
        "--writers", type=int, default=3, help="kills of each command that writes into run folders"
    )
    parser.add_argument(
        "--races", type=int, default=1, help="of each pair of commands on one folder"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--json", type=Path, default=Path("results/faults.json"), help="file for the figures"
    )
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = f"{folder}/compiled"
        campaign = Campaign(Path(folder), options.seed)
        if options.kills:
            campaign.kill_runs(options.kills)
        if options.faults:
            campaign.try_faults()
        if options.writers:
            campaign.kill_writers(options.writers)
        if options.races:
            campaign.race(options.races)
        if options.studies:
            campaign.kill_studies(options.studies)
    figures = {
        "command": "python -m tests.faults.campaign "
        f"--kills {options.kills} --studies {options.studies} --writers {options.writers} --races {options.races} "
        f"--seed {options.seed}",
        **campaign.figures(),
        "minutes": round((time.monotonic() - began) / 60, 1),
        "cpu_cores": os.cpu_count(),
        "machine": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("jax", "jaxlib", "flax", "orbax-checkpoint")},
    }
    options.json.write_text(json.dumps(figures, indent=1) + "\n")
    print(describe(figures))
    return int(bool(figures["losses"]))


if __name__ == "__main__":
    sys.exit(main())
