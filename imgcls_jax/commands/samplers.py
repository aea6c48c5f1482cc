"""Where the options of a search's trials come from: chance, or Optuna."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imgcls_jax import files
from imgcls_jax.config.ranges import Range
from imgcls_jax.errors import ConfigError, RunError, pip_install
from imgcls_jax.run.lock import FolderLock

JOURNAL = "optuna.journal"  # Optuna's own storage, in the folder of the study
STUDY = "search"  # its name there
RANGES = "ranges"  # the attribute there that has the ranges, as texts
REPETITIONS = "repetitions"  # that which has the names of the seeds and folds
PATIENCE = 60.0  # seconds to wait for another process that reads or writes the journal
MISSING = (
    f'config.sampler is "optuna", which is not installed: {pip_install("search")}, or give '
    "--config.sampler=random."
)


class RandomSampler:
    """Draws each trial's options by chance, from a seed and the trial's number alone.

    So every process on a search knows all of its trials, and more trials leave the first as they
    are.
    """

    def __init__(self, ranges: Mapping[str, Range], *, seed: int):
        self._ranges = ranges
        self._seed = seed

    def options(self, number: int) -> dict[str, Any]:
        """Returns the options of a trial by their paths. number: of the trial, from 0."""
        generator = np.random.default_rng((self._seed, number))
        return {path: choices.draw(generator) for path, choices in self._ranges.items()}

    preview = options


class OptunaSampler:
    """Has Optuna's tree-structured Parzen estimator (TPE) choose each trial by those before it.

    The trials are in Optuna's journal in the study's folder, which several processes share.
    https://papers.nips.cc/paper/4443-algorithms-for-hyper-parameter-optimization
    """

    def __init__(
        self,
        ranges: Mapping[str, Range],
        folder: Path,
        *,
        seed: int,
        higher_is_better: bool,
        value_of: Callable[[int], float | None],
        repetitions: Sequence[str],
    ):
        """value_of: returns the metric of a trial by its number; None if it is not finished.
        repetitions: names of the seeds and folds of each trial, whose metrics Optuna keeps.

        Raises ConfigError if Optuna is not installed.
        """
        require_optuna()
        self._ranges = ranges
        self._folder = folder
        self._seed = seed
        self._direction: Any = "minimize"
        if higher_is_better:
            self._direction = "maximize"
        self._value_of = value_of
        self._repetitions = list(repetitions)
        self._random = RandomSampler(ranges, seed=seed)

    def options(self, number: int) -> dict[str, Any]:
        """Returns the options of a trial by their paths, which Optuna may choose now.

        number: of the trial, from 0. Optuna hears of the trials that are finished first. Raises
        RunError if the journal is damaged or is one of other ranges.
        """
        with self._opened(number) as study:
            self._tell(study)
            while len(study.get_trials(deepcopy=False)) <= number:
                trial = study.ask()
                for path, choices in self._ranges.items():
                    choices.suggest(trial, path)
            return self._stored(study, number)

    def preview(self, number: int) -> dict[str, Any]:
        """Returns the same without writing; a trial that is not chosen yet is drawn by chance."""
        if (self._folder / JOURNAL).exists():
            with self._opened(number) as study:
                if number < len(study.get_trials(deepcopy=False)):
                    return self._stored(study, number)
        return self._random.options(number)

    def importances(self) -> dict[str, float]:
        """Returns how much each option mattered, by fANOVA: shares that add up to 1.

        https://proceedings.mlr.press/v32/hutter14.html
        """
        import optuna

        with self._opened(0) as study:
            self._tell(study)
            evaluator = optuna.importance.FanovaImportanceEvaluator(seed=self._seed)
            return optuna.importance.get_param_importances(study, evaluator=evaluator)

    def _stored(self, study: Any, number: int) -> dict[str, Any]:
        trial = study.get_trials(deepcopy=False)[number]
        # Those that a process did not get to ask for before it was killed are drawn by chance.
        options = self._random.options(number)
        for path, choices in self._ranges.items():
            if path in trial.params:
                options[path] = choices.suggest(trial, path)
        return options

    def _tell(self, study: Any) -> None:
        """Gives Optuna the metrics of the trials that are finished."""
        for trial in study.get_trials(deepcopy=False):
            value = None
            if not trial.state.is_finished():
                value = self._value_of(trial.number)
            if value is not None:
                study.tell(trial.number, value)

    @contextlib.contextmanager
    def _opened(self, number: int) -> Iterator[Any]:
        """Yields Optuna's study, locked. number: of the trial that is to be chosen next."""
        path = self._folder / JOURNAL
        with FolderLock(self._folder / f".{JOURNAL}.lock", patience=PATIENCE):
            try:
                _drop_half_line(path)
                study = self._load(path, number)
            except (ValueError, TypeError) as error:
                raise RunError(
                    f"{path} is damaged ({error}). Give another --workdir: the search begins "
                    "again there."
                ) from error
            self._check_search(study)
            yield study

    def _load(self, path: Path, number: int) -> Any:
        """Returns the study of the journal, which is created if needed."""
        import optuna
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        # Constant liar: trials of other processes that are not finished count as bad ones, so that
        # they are not tried twice. A seed for each trial makes it independent of who asks.
        sampler = optuna.samplers.TPESampler(seed=_seed_of(self._seed, number), constant_liar=True)
        no_lock: Any = _NoLock()
        backend = JournalFileBackend(str(path), lock_obj=no_lock)
        storage = optuna.storages.JournalStorage(backend)
        try:
            return optuna.load_study(storage=storage, study_name=STUDY, sampler=sampler)
        except KeyError:
            return optuna.create_study(
                storage=storage, study_name=STUDY, direction=self._direction, sampler=sampler
            )

    def _check_search(self, study: Any) -> None:
        """Raises RunError if the journal is one of another search."""
        ranges = {path: str(choices) for path, choices in self._ranges.items()}
        stored = study.user_attrs.get(RANGES)
        if stored is None:
            study.set_user_attr(RANGES, ranges)
        elif stored != ranges:
            raise RunError(
                f"{self._folder} has a search over other ranges: {stored}. Give another --workdir "
                "or --config.name for these."
            )
        repetitions = study.user_attrs.get(REPETITIONS)
        if repetitions is None:
            study.set_user_attr(REPETITIONS, self._repetitions)
        elif repetitions != self._repetitions:
            raise RunError(
                f"{self._folder} has a search with other seeds or folds: {', '.join(repetitions)}. "
                "Give another --workdir or --config.name for these."
            )
        if study.direction.name.lower() != self._direction:
            raise RunError(
                f"{self._folder} has a search that was to {study.direction.name.lower()} its "
                f"metric, and train.monitor is one to {self._direction} now. Give another --workdir "
                "or --config.name."
            )


class _NoLock:
    """For Optuna's backend, which is used under a FolderLock."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


def require_optuna() -> None:
    """Raises ConfigError if Optuna is not installed."""
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise ConfigError(MISSING) from error


def _seed_of(seed: int, number: int) -> int:
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0])


def _drop_half_line(path: Path) -> None:
    """Removes the end of a line that a process had not written to its end."""
    if not path.exists():
        return
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    if end < len(content):
        with files.replacing(path) as file:
            file.write(content[:end])
