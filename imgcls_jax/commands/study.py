"""Studies: a named list of configs, each trained with several seeds, that end in one table."""

import dataclasses
import itertools
import logging
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from imgcls_jax import backend
from imgcls_jax.commands import ensemble as ensembles
from imgcls_jax.commands import overrides
from imgcls_jax.commands.trainer import Outcome, Planned, Trainer
from imgcls_jax.config import kinds, trial
from imgcls_jax.config.options import flat_options
from imgcls_jax.errors import ConfigError, RunError
from imgcls_jax.run.claim import claimed
from imgcls_jax.run.folder import RunFolder

log = logging.getLogger(__name__)

# What sets the options in which the runs of one row differ.
REPEATED_BY = {"seed": "config.seeds", "data.fold": "data.folds"}


def plan(config: ConfigDict, workdir: Path, changed: Iterable[str] = ()) -> list[Planned]:
    """Returns the runs of a study or an ensemble, in the order in which they are trained.

    First those that are needed or members, as runs/NAME; then each row with each seed, its own or
    the study's, as `workdir`/ROW-seedN. A row with `data.folds` is trained on each fold, as
    ROW-seedN-foldM. With a `grid`, pairs of an option's path and its values, there is a row for each
    combination of them. With `quick` all of them are trials, and the runs needed are
    runs/NAME-trial. Raises ConfigError for what cannot be trained.
    """
    check(config)
    changed = tuple(changed)
    runs = needed(config, changed)
    for label, row in (config.get("rows") or {}).items():
        for suffix, options in _combinations(config.get("grid", ())):
            folds = options.get("data.folds", row.config.data.folds)
            for end, repetition in repetitions(row.get("seeds", config.seeds), folds):
                run = row_run(
                    config,
                    label,
                    workdir / f"{label}{suffix}-{end}",
                    options=options,
                    repetition=repetition,
                    source="config.grid",
                    changed=changed,
                )
                runs.append(dataclasses.replace(run, row=label + suffix))
    _check_folders(runs)
    return runs


def check(config: ConfigDict) -> None:
    """Raises ConfigError for a study or an ensemble that cannot be trained."""
    from imgcls_jax.reporting import compare
    from imgcls_jax.training import checks

    if "rows" in config:
        checks.check_study(config, figures=compare.REPORTED)
        _check_grid(config)
    else:
        checks.check_ensemble(config)


def check_row(config: ConfigDict, label: str, options: Mapping[str, Any], *, source: str) -> None:
    """Raises ConfigError if a row cannot be trained with these options.

    source: what gives the options, for the error.
    """
    from imgcls_jax.training import checks

    run_config = config.rows[label].config.copy_and_resolve_references()
    overrides.apply(run_config, options, source=source)
    checks.check(run_config, at=f"rows.{label}.config.")


def needed(config: ConfigDict, changed: Iterable[str] = ()) -> list[Planned]:
    """Returns the runs that are trained first, as runs/NAME: a study's needs, or members."""
    changed = tuple(changed)
    runs = []
    for section in ("needs", "members"):
        for name, run_config in (config.get(section) or {}).items():
            run_changes = _below(f"{section}.{name}.", changed)
            folder = Path("runs", trial.folder_name(name, config))
            run = Planned("", run_config, folder, {}, run_changes)
            runs.append(_as_trial(run, config))
    return runs


def repetitions(seeds: Sequence[int], folds: int) -> Iterator[tuple[str, dict[str, int]]]:
    """Yields what each training of a row adds to its folder's name, and its options."""
    for seed in seeds:
        if not folds:
            yield f"seed{seed}", {"seed": seed}
        for fold in range(folds):
            yield f"seed{seed}-fold{fold}", {"seed": seed, "data.fold": fold}


def row_run(
    config: ConfigDict,
    label: str,
    folder: Path,
    *,
    options: Mapping[str, Any],
    repetition: Mapping[str, int],
    source: str,
    changed: Iterable[str] = (),
    note: str = "",
) -> Planned:
    """Returns a run of a row of the study, with these options, into this folder.

    repetition: the options in which the runs of one row differ, as of `repetitions`. source: what
    gives the options, for the error. note: as of Planned. Raises ConfigError for what is no option.
    """
    row = config.rows[label]
    run_config = row.config.copy_and_resolve_references()
    overrides.apply(run_config, options, source=source)
    overrides.apply(run_config, repetition, source="config.seeds")
    reported = row.get("reported", ConfigDict()).to_dict()
    run_changes = (*_below(f"rows.{label}.config.", changed), *options)
    run = Planned(label, run_config, folder, reported, run_changes, note)
    return _as_trial(run, config)


def _as_trial(run: Planned, study: ConfigDict) -> Planned:
    """Returns the run or, if the study is a trial, a trial of it.

    That starts from trials of the runs that the study needs.
    """
    if not study.get("quick"):
        return run
    run_config = run.config.copy_and_resolve_references()
    run_config.quick = study.quick
    needed = {f"runs/{name}" for name in study.get("needs") or {}}
    for path, value in flat_options(run_config).items():
        if isinstance(value, str) and value in needed:
            overrides.apply(run_config, {path: f"{value}-trial"}, source="config.quick")
    return dataclasses.replace(run, config=run_config)


def _below(prefix: str, paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(path.removeprefix(prefix) for path in paths if path.startswith(prefix))


def _check_grid(config: ConfigDict) -> None:
    """Raises ConfigError for a grid of which a combination cannot be trained."""
    for _, options in _combinations(config.get("grid", ())):
        for path in REPEATED_BY:
            if path in options:
                raise ConfigError(f"config.grid has {path!r}: give {REPEATED_BY[path]} instead.")
        if options:
            for label in config.rows:
                check_row(config, label, options, source="config.grid")


def _check_folders(runs: Iterable[Planned]) -> None:
    """Raises ConfigError if a run's folder has no name of its own, or too long a one."""
    folders = set()
    for run in runs:
        if len(run.name) > kinds.LONGEST_NAME:
            raise ConfigError(
                f"The run {run.name[:60]}... has a name of {len(run.name)} characters, more than "
                f"{kinds.LONGEST_NAME}. Make rows of the values of config.grid that are long."
            )
        if run.folder in folders:
            raise ConfigError(
                f"Two runs would be called {run.name}: in folders' names their values of "
                "config.grid are the same. Train them as studies with another --config.name."
            )
        folders.add(run.folder)


def _combinations(
    grid: Sequence[tuple[str, Sequence[Any]]],
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields, for each combination of a grid, what it adds to a row's label, and its options."""
    for pair in grid:
        is_pair = len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], Sequence)
        if not is_pair:
            raise ConfigError(
                f"config.grid is {grid!r}: give pairs of an option and its values, as in "
                "--config.grid=\"(('optimizer.learning_rate', (.1, .01)),)\"."
            )
    paths = [path for path, _ in grid]
    for values in itertools.product(*(values for _, values in grid)):
        options = dict(zip(paths, values, strict=True))
        suffix = ""
        for path, value in options.items():
            option = path.split(".")[-1]
            text = re.sub(r"[^\w.,+-]", "", str(value))
            suffix += f",{option}={text}"
        yield suffix, options


def train(config: ConfigDict, workdir: Path, changed: Iterable[str] = ()) -> None:
    """Trains the runs of the study's plan in turn, and writes their comparison into `workdir`.

    Each run is a process of its own: what is finished is not repeated, what was interrupted goes
    on, and what another process on the same study trains is left to it. If runs fail the others
    are trained all the same; then the table has the other rows, and RunError names the runs that
    failed. After `budget` hours, if it is not 0, the current run is saved and stopped; the table
    has the seeds that are finished.
    """
    changed = tuple(changed)
    runs = plan(config, workdir, changed)
    log_unread(config, changed)
    study = RunFolder(workdir)
    with study.locked(shared=True):
        _train_and_compare(config, study, runs)


def _train_and_compare(config: ConfigDict, study: RunFolder, runs: Sequence[Planned]) -> None:
    trainer = Trainer(study, total=len(runs), hours=config.get("budget", 0.0))
    outcomes = trainer.train([run for run in runs if not run.row])
    outcomes |= trainer.train([run for run in runs if run.row])
    with claimed(study, patience=math.inf):  # another process may write the same table
        _compare(config, study.path, runs, outcomes)
    log_late(config, runs, outcomes)
    failed = [run.name for run in runs if outcomes[run.folder] == Outcome.FAILED]
    if failed:
        raise RunError(
            f"{len(failed)} of {len(runs)} runs failed, with the errors above: "
            f"{', '.join(failed)}. The table has the other rows; the same command tries these "
            "again."
        )


def log_unread(config: ConfigDict, changed: Iterable[str]) -> None:
    """Logs which options were given and have no effect on the study or its rows."""
    reasons = {}
    if not config.get("search"):
        for path in ("trials", "sampler", "search_seed"):
            reasons[path] = "the study has no config.search"
    if all("seeds" in row for row in config.rows.values()):
        reasons["seeds"] = "each row has seeds of its own"
    varied = [path for path, _ in (*config.get("grid", ()), *config.get("search", ()))]
    for label in config.rows:
        for path in (*REPEATED_BY, *varied):
            reasons[f"rows.{label}.config.{path}"] = "the study sets it in each run"
    for path in changed:
        if path in reasons:
            log.info("config.%s was given and has no effect: %s.", path, reasons[path])


def log_late(config: ConfigDict, runs: Sequence[Planned], outcomes: Mapping[Path, Outcome]) -> None:
    """Logs which runs are not finished since the budget is spent."""
    late = [run.name for run in runs if outcomes[run.folder] == Outcome.OUT_OF_TIME]
    if late:
        log.info(
            "The budget of %g hours is spent: %d of %d runs are not finished: %s. "
            "The same command goes on.",
            config.budget,
            len(late),
            len(runs),
            ", ".join(late),
        )


def _compare(
    config: ConfigDict,
    workdir: Path,
    runs: Sequence[Planned],
    outcomes: Mapping[Path, Outcome],
) -> None:
    """Writes the comparison of the rows, as far as they are trained."""
    from imgcls_jax.evaluation import cost
    from imgcls_jax.reporting import compare
    from imgcls_jax.reporting.compare_rows import Group

    groups = []
    for label, row in compared(runs, outcomes).items():
        folders = [RunFolder(run.folder) for run in row]
        groups.append(Group(label, row[0].reported, folders))
    if groups:
        backend.configure()
        text = compare.write(groups, workdir, title=title(config), meter=cost.Meter())
        log.info("\n%s\n%s", text, workdir / "table.md")


def compared(runs: Sequence[Planned], outcomes: Mapping[Path, Outcome]) -> dict[str, list[Planned]]:
    """Returns the finished runs of each row that is compared, by the row's label.

    Of a row that is not finished, those of the seeds so far. Left out are such rows if one of their
    runs failed, which may have been a harder one, or if they have folds, whose test images differ.
    """
    rows: dict[str, list[Planned]] = {}
    for run in runs:
        if run.row:
            rows.setdefault(run.row, []).append(run)
    finished = {}
    for label, row in rows.items():
        ended = [run for run in row if outcomes[run.folder] == Outcome.FINISHED]
        is_whole = len(ended) == len(row)
        has_failed = any(outcomes[run.folder] == Outcome.FAILED for run in row)
        has_folds = row[0].config.data.folds > 0
        if is_whole or (ended and not has_failed and not has_folds):
            finished[label] = ended
    return finished


def title(config: ConfigDict) -> str:
    """Returns the title of the study's table."""
    if config.get("quick"):
        return f"{config.title}: {trial.description(config.quick)}"
    return config.title


def ensemble(config: ConfigDict, workdir: Path, changed: Iterable[str] = ()) -> None:
    """Trains the ensemble's members that are missing, as runs/NAME, and lets them vote."""
    from imgcls_jax.evaluation.ensemble import parse_weights

    members = plan(config, workdir, changed)
    parse_weights(config.weights, len(members))  # raises ConfigError before anything is trained
    Trainer(RunFolder(workdir), total=len(members)).train(members)
    folders = [str(run.folder) for run in members]
    ensembles.ensemble(folders, weights=config.weights, workdir=workdir)
