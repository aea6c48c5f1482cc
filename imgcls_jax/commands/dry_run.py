"""What a command would train, without training it: the runs, how far they are, their parameters and their time."""

import json
import logging
import multiprocessing
import os
import re
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from ml_collections import ConfigDict
from tqdm import tqdm

from imgcls_jax import backend, console
from imgcls_jax.commands import study, train
from imgcls_jax.config.options import flat_options
from imgcls_jax.errors import RunError, UserError
from imgcls_jax.reporting import page
from imgcls_jax.reporting.plain_tables import markdown_row, markdown_table
from imgcls_jax.run import resuming
from imgcls_jax.run.folder import METRICS, RunFolder, training_command
from imgcls_jax.training import checks as options
from imgcls_jax.training import profiling
from imgcls_jax.training.profiling import Estimate

# Options, of a run or of a phase of it, that change nothing of how long an epoch takes.
TIMELESS = re.compile(
    r"^(seed|name)$|(^|\.)(data\.(split_seed|cache)|train\.(epochs|monitor|early_stopping|label_smoothing)"
    r"|optimizer\.(learning_rate|momentum|beta1|beta2|eps)|schedule\.\w+)$"
)
HEAD = ("Run", "State", "Parameters", "Trainable", "Epochs", "Time left")


def show(config: ConfigDict, workdir: Path, given: Iterable[str] = ()) -> None:
    """Prints the runs of a config, a study or an ensemble, how far they are, and about how long the rest would take.

    Times are at most, and come of a few steps, taken in a process of its own for each kind of run; runs that differ in
    nothing that a step's time depends on are looked at once. A run's line is printed as soon as it is known. What a run
    starts from and is not here is named: without weights of the catalogue its time is known all the same, without
    another run it is not. Nothing is written into their folders.
    """
    logging.getLogger("imgcls_jax").setLevel(logging.WARNING)  # the table says it all
    many = "rows" in config or "members" in config
    runs = study.plan(config, workdir) if many else [study.Planned("", config, workdir, {})]
    known: dict[str, Estimate] = {}
    total, problems, weights, later = 0.0, [], set(), 0
    console.say(markdown_table(HEAD, (), figures=range(2, len(HEAD))).rstrip("\n"))
    with ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn"), max_tasks_per_child=1
    ) as pool:
        for run in tqdm(runs, desc="a few steps of each", unit="run", leave=False, disable=None):
            line = run.name, "cannot start", "", "", "", ""
            try:
                options.check(run.config)
                needs = _missing(run.config)
                _refuse_missing_runs(needs, planned=[str(other.folder) for other in runs])
                state, counts, left = _look(run, known, pool)
                weights |= set(needs) if left else set()
                total += left
                line = (
                    run.name,
                    state,
                    *(f"{count:,}" for count in counts),
                    page.duration(left) if left else "",
                )
            except UserError as error:
                problems.append(f"{run.name}: {error}")
                later += 1
            tqdm.write(markdown_row(line), end="")
            sys.stdout.flush()
    if weights:
        problems.append(f"To be fetched first: {', '.join(sorted(weights))}.")
    without = [f"{later} of {len(runs)} runs"] * bool(later) + ["fetching the weights"] * bool(
        weights
    )
    except_for = f", without {' and '.join(without)}" if without else ""
    console.say("", *problems)
    console.say(
        f"{page.duration(total)} in all at this machine's present speed{except_for}; nothing was trained."
    )


def _missing(config: ConfigDict) -> list[str]:
    """Weights, a run to start from and a teacher that the config names and that are not here."""
    from imgcls_jax import pretrained

    teacher = (config.get("objective") or {}).get("teacher")
    return pretrained.missing(config) + (
        [teacher] if teacher and not os.path.exists(teacher) else []
    )


def _refuse_missing_runs(needs: list[str], *, planned: list[str]) -> None:
    from imgcls_jax import pretrained

    for path in needs:
        if path in planned:
            raise RunError(
                f"it starts from {path}, which is trained before it: how long it takes is not known yet."
            )
        if not pretrained.named(path):
            raise RunError(f"it needs {path}, which is not there.{training_command(path)}")


def _look(
    run: study.Planned, known: dict[str, Estimate], pool: ProcessPoolExecutor
) -> tuple[str, tuple[int, int, int], float]:
    """How far a run is; its parameters, those that train and its epochs; and the seconds left. known: by kind."""
    folder = RunFolder(run.folder)
    if resuming.finished(train.checked(run.config), folder):
        test = folder.test
        return (
            "finished",
            (test["parameters"], test.get("trainable", test["parameters"]), test["epochs"]),
            0.0,
        )
    kind, epochs = _kind(run.config), sum(profiling.epochs_of(run.config))
    estimate = known[kind] = known.get(kind) or pool.submit(_estimate, run.config).result()
    done = len(folder.history) if (folder.path / METRICS).exists() else 0
    state = f"{done} epochs done" if done else "new"
    return (
        state,
        (estimate.parameters, estimate.trainable, epochs),
        estimate.seconds(run.config) * (1 - done / epochs),
    )


def _kind(config: ConfigDict) -> str:
    """What the time of a step and of an epoch depends on."""
    timed = {
        path: value for path, value in flat_options(config).items() if not TIMELESS.search(path)
    }
    return json.dumps(timed, sort_keys=True, default=str)


def _estimate(config: ConfigDict) -> Estimate:
    from imgcls_jax import data, pretrained

    console.set_up()
    logging.getLogger("imgcls_jax").setLevel(logging.WARNING)
    config = pretrained.resolve(config)
    backend.configure(cpu_devices=config.train.cpu_devices)
    return profiling.estimate(config, data.load(config.data))
