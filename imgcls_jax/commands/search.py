"""Searches: studies whose row is trained with options drawn from ranges, trial by trial.

Trials are ranked by the validation metric that the row monitors. The test set has no part in it.
"""

import logging
import math
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict

from imgcls_jax import api, console
from imgcls_jax.commands import samplers, study
from imgcls_jax.commands.trainer import Outcome, Planned, Trainer
from imgcls_jax.config import kinds, ranges
from imgcls_jax.errors import ConfigError, RunError, choose
from imgcls_jax.run import resuming
from imgcls_jax.run.claim import claimed
from imgcls_jax.run.folder import RunFolder

if TYPE_CHECKING:
    from imgcls_jax.reporting.search import Trial

log = logging.getLogger(__name__)

TRIALS = 20  # of a config that does not say how many
SAMPLERS = ("random", "optuna")
# What would give trials other validation images, or another metric to compare.
SHARED = re.compile(
    r"seed|name|quick|train\.monitor"
    r"|data\.(source|name|path|validation_size|test_size|split_seed|folds?|long_tail|corrections)"
)
FRESH_SEEDS = 3  # with which the best trial is tested


class Search:
    """The trials of a search: a run of each with each seed, or fold."""

    def __init__(self, config: ConfigDict, workdir: Path, changed: Iterable[str] = ()):
        """Raises ConfigError for a search that cannot be trained."""
        check(config)
        self.config = config
        self.workdir = workdir
        self.changed = tuple(changed)
        (self.label,) = config.rows
        self.ranges = ranges.of(config.search)
        self.trials = config.get("trials", TRIALS)
        row = config.rows[self.label]
        self.seeds = row.get("seeds", config.seeds)
        self.repetitions = dict(study.repetitions(self.seeds, row.config.data.folds))
        self.monitor = row.config.train.monitor
        self.sampler = self._create_sampler()

    def __len__(self) -> int:
        return self.trials * len(self.repetitions)

    def runs(self, is_over: Callable[[], bool]) -> Iterator[Planned]:
        """Yields the runs. The options of a trial are chosen when its turn comes.

        is_over: whether no run can begin any more; what is not chosen by then is drawn by chance.
        """
        for number in range(self.trials):
            for end in self.repetitions:
                if is_over():
                    options = self.sampler.preview(number)
                else:
                    options = self.sampler.options(number)
                yield self._plan(number, end, options)

    def preview(self) -> list[Planned]:
        """Returns the runs, and chooses nothing: what is not chosen yet is drawn by chance."""
        return list(self.runs(lambda: True))

    def check_folders(self) -> None:
        """Raises RunError if a trial's folder holds the run of another config."""
        for run in self.preview():
            folder = RunFolder(run.folder)
            if folder.begun or folder.finished:
                resuming.check_folder(api.check_config(run.config), folder)

    def finished(self, outcomes: Mapping[Path, Outcome]) -> list["Trial"]:
        """Returns the trials of which every run is finished, by the outcomes of their folders."""
        from imgcls_jax.reporting.search import Trial

        trials = []
        for number in range(self.trials):
            folders = [self._folder(number, end) for end in self.repetitions]
            is_finished = all(outcomes[folder] == Outcome.FINISHED for folder in folders)
            value = self._value(number)
            if is_finished and value is not None:
                runs = self._folders(number)
                trials.append(Trial(number, self.sampler.preview(number), value, runs))
        return trials

    def _plan(self, number: int, end: str, options: Mapping[str, Any]) -> Planned:
        return study.row_run(
            self.config,
            self.label,
            self._folder(number, end),
            options=options,
            repetition=self.repetitions[end],
            source="config.search",
            changed=self.changed,
            note=ranges.described(options),
        )

    def _folder(self, number: int, end: str) -> Path:
        return self.workdir / f"trial{number}-{end}"

    def _folders(self, number: int) -> list[RunFolder]:
        return [RunFolder(self._folder(number, end)) for end in self.repetitions]

    def _value(self, number: int) -> float | None:
        """Returns the mean over seeds and folds of the validation metric; None without all."""
        values = []
        for run in self._folders(number):
            if not run.finished:
                return None
            values.append(run.test[f"validation_{self.monitor}"])
        return sum(values) / len(values)

    def _create_sampler(self) -> samplers.RandomSampler | samplers.OptunaSampler:
        from imgcls_jax.training.metrics import METRICS

        seed = self.config.get("search_seed", 0)
        if self.config.get("sampler", "random") == "random":
            return samplers.RandomSampler(self.ranges, seed=seed)
        return samplers.OptunaSampler(
            self.ranges,
            self.workdir,
            seed=seed,
            higher_is_better=METRICS[self.monitor].higher_is_better,
            value_of=self._value,
            repetitions=list(self.repetitions),
        )


def check(config: ConfigDict) -> None:
    """Raises ConfigError for a search that cannot be trained, before anything is."""
    study.check(config)
    if len(config.rows) != 1 or config.get("grid"):
        raise ConfigError(
            "config.search is for a study of one row without config.grid: it says itself how many "
            "trials there are. python launch.py --config configs/studies/search.py:NAME has the "
            "one row configs/NAME.py."
        )
    _check_number("trials", kinds.Whole(1), config.get("trials", TRIALS))
    _check_number("search_seed", kinds.SEED, config.get("search_seed", 0))
    choose("sampler (sampler)", config.get("sampler", "random"), dict.fromkeys(SAMPLERS))
    (label,) = config.rows
    for path, choices in ranges.of(config.search).items():
        if SHARED.fullmatch(path):
            raise ConfigError(
                f"config.search has {path!r}, which has to be the same in all trials: they are "
                "compared by one metric on the same validation images."
            )
        for value in choices.extremes:
            study.check_row(config, label, {path: value}, source="config.search")


def _check_number(name: str, kind: kinds.Whole, value: Any) -> None:
    remedy = kind.remedy(value)
    if remedy:
        raise ConfigError(f"{name} is {value!r}: {remedy}.")


def train(config: ConfigDict, workdir: Path, changed: Iterable[str] = ()) -> None:
    """Trains the trials of the search in turn, and writes their table into `workdir`.

    As in a study, what is finished is not repeated, what was interrupted goes on, and several
    processes share the trials. A trial that fails, as with a rate at which the loss is no longer
    finite, is left out of the table. Raises RunError if all fail, or if the folder has trials of
    another search.
    """
    search = Search(config, workdir, changed)
    study.log_unread(config, search.changed)
    folder = RunFolder(workdir)
    with folder.locked(shared=True):
        needs = study.needed(config, changed)
        trainer = Trainer(folder, total=len(needs) + len(search), hours=config.get("budget", 0.0))
        outcomes = trainer.train(needs)
        search.check_folders()
        outcomes |= trainer.train(search.runs(trainer.is_over))
        with claimed(folder, patience=math.inf):  # another process may write the same table
            _report(search, outcomes)
    study.log_late(config, [*needs, *search.preview()], outcomes)
    failed = [path.name for path, outcome in outcomes.items() if outcome == Outcome.FAILED]
    if failed and len(failed) == len(search):
        raise RunError(f"All {len(failed)} runs failed, with the errors above.")
    if failed:
        log.warning(
            "%d of %d runs failed, with the errors above, and are not in the table: %s. "
            "The same command tries them again.",
            len(failed),
            len(search),
            ", ".join(failed),
        )


def _report(search: Search, outcomes: Mapping[Path, Outcome]) -> None:
    """Writes the table of the trials of which every run is finished, and logs it."""
    from imgcls_jax.reporting import search as reporting

    trials = search.finished(outcomes)
    if not trials:
        return
    importances = None
    if isinstance(search.sampler, samplers.OptunaSampler) and reporting.differ(trials):
        importances = search.sampler.importances()
    text = reporting.write(
        trials,
        search.ranges,
        search.workdir,
        title=study.title(search.config),
        monitor=search.monitor,
        importances=importances,
        test_command=lambda best: _test_command(search, best),
    )
    log.info("\n%s\n%s", text, search.workdir / "table.md")


def _test_command(search: Search, best: "Trial") -> str:
    """Returns the command that trains the best trial's options with seeds that chose nothing."""
    grid = tuple((path, (value,)) for path, value in best.options.items())
    first = max(search.seeds) + 1
    seeds = ",".join(str(first + number) for number in range(FRESH_SEEDS))
    option = "seeds"
    if "seeds" in search.config.rows[search.label]:
        option = f"rows.{search.label}.seeds"
    changes = [
        "--config.search=()",
        f"--config.grid={grid!r}",
        f"--config.{option}={seeds}",
        f"--workdir={search.workdir}-best",
    ]
    return f"{console.command_line()} {shlex.join(changes)}"
