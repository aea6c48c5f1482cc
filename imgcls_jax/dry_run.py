"""What a command would train, without training it: the runs, how far they are, their parameters and their time."""

import json
import logging
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from ml_collections import ConfigDict
from tqdm import tqdm

from imgcls_jax import backend, commands, console, resuming, studies
from imgcls_jax.errors import UserError
from imgcls_jax.reporting import page
from imgcls_jax.reporting.plain_tables import markdown_table
from imgcls_jax.run_folder import METRICS, RunFolder
from imgcls_jax.training.profiling import Estimate

HEAD = ("Run", "State", "Parameters", "Trainable", "Epochs", "Time left")


def show(config: ConfigDict, workdir: Path) -> None:
    """Prints the runs of a config, a study or an ensemble, how far they are, and about how long the rest would take.

    Times are at most, and come of a few steps, taken in a process of its own for each kind of run; runs that differ in
    their seed alone are looked at once. Nothing is written into their folders.
    """
    logging.getLogger("imgcls_jax").setLevel(logging.WARNING)  # the table says it all
    many = "rows" in config or "members" in config
    runs = studies.plan(config, workdir) if many else [studies.Planned("", config, workdir, {})]
    known: dict[str, Estimate] = {}
    lines, total, problems = [], 0.0, []
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
        for run in tqdm(runs, desc="a few steps of each", unit="run", leave=False, disable=None):
            folder = RunFolder(run.folder)
            kind = json.dumps(run.config.to_dict() | {"seed": 0}, sort_keys=True, default=str)
            try:
                if resuming.finished(commands.checked(run.config), folder):
                    test = folder.test
                    counts = test["parameters"], test.get("trainable", test["parameters"]), test["epochs"]
                    state, left = "finished", 0.0
                else:
                    found = known[kind] = known.get(kind) or pool.submit(_estimate, run.config).result()
                    counts = found.parameters, found.trainable, found.epochs
                    done = len(folder.history) if (folder.path / METRICS).exists() else 0
                    state, left = f"{done} epochs done" if done else "new", found.seconds * (1 - done / found.epochs)
            except UserError as error:
                problems.append(f"{run.name}: {error}")
                lines.append((run.name, "cannot be trained", "", "", "", ""))
                continue
            total += left
            lines.append((run.name, state, *(f"{count:,}" for count in counts), page.duration(left) if left else ""))
    console.say(markdown_table(HEAD, lines, figures=range(2, len(HEAD))), *problems)
    console.say(f"{page.duration(total)} in all at this machine's present speed; nothing was trained.")


def _estimate(config: ConfigDict) -> Estimate:
    from imgcls_jax import data, pretrained
    from imgcls_jax.training import profiling

    console.set_up()
    logging.getLogger("imgcls_jax").setLevel(logging.WARNING)
    config = pretrained.resolve(config)
    backend.configure(cpu_devices=config.train.cpu_devices)
    return profiling.estimate(config, data.load(config.data))
