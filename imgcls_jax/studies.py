"""Studies: a named list of configs, each trained with several seeds, that end in one table."""

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
from pathlib import Path

from ml_collections import ConfigDict

from imgcls_jax import commands, console
from imgcls_jax.errors import ConfigError, RunError, UserError
from imgcls_jax.run_folder import RunFolder
from imgcls_jax.training.interrupt import Interrupted

log = logging.getLogger(__name__)

PATIENCE = 60.0  # seconds that a run may take to end once its study is gone


def train(config: ConfigDict, workdir: Path) -> None:
    """Trains every row of the study with every seed, in turn, and writes the comparison beside the run folders.

    Each run lies in `workdir`/ROW-seedN, is a process of its own, and follows commands.train: what is finished is not
    repeated, what was interrupted goes on. The runs that the study `needs` come first, as runs/NAME. Where runs fail
    the others are trained all the same; then the table has the rows that are whole, and RunError names the runs that
    failed.
    """
    with RunFolder(workdir).locked():
        _train_rows(config, workdir)


def _train_rows(config: ConfigDict, workdir: Path) -> None:
    from imgcls_jax.reporting import compare

    if not config.seeds:
        raise ConfigError("config.seeds is empty: give at least one seed, as in --config.seeds=0,")
    _train_needed(config.get("needs", {}), workdir)
    total, number, groups, failed = len(config.rows) * len(config.seeds), 0, [], []
    for label, row in config.rows.items():
        runs = []
        for seed in config.seeds:
            row_config = row.config.copy_and_resolve_references()
            row_config.seed = seed
            number += 1
            log.info("\n%s: run %d of %d, %s with seed %d", workdir.name, number, total, label, seed)
            folder = workdir / f"{label}-seed{seed}"
            (runs if _train_apart(row_config, folder) else failed).append(RunFolder(folder))
        if len(runs) == len(config.seeds):
            groups.append((label, row.get("reported", ConfigDict()).to_dict(), runs))
    if groups:
        rows = compare.summarize(groups)
        compare.write(rows, workdir, title=config.title, sentences=compare.pairs(groups))
        log.info("\n%s\n%s", compare.markdown(rows), workdir / "table.md")
    if failed:
        names = ", ".join(run.name for run in failed)
        raise RunError(
            f"{len(failed)} of {total} runs failed, with the errors above: {names}. The table has the other rows; the "
            "same command tries these again."
        )


def ensemble(config: ConfigDict, workdir: Path) -> None:
    """Trains the ensemble's members that are missing, as runs/NAME, and lets them vote."""
    _train_needed(config.members, workdir)
    commands.ensemble([f"runs/{name}" for name in config.members], weights=config.weights, workdir=workdir)


def _train_needed(configs: ConfigDict, workdir: Path) -> None:
    for name, config in configs.items():
        log.info("\n%s: first of all %s, which it needs", workdir.name, name)
        if not _train_apart(config, Path("runs", name)):
            raise RunError(f"{workdir.name} needs the run {name}, which failed with the error above.")


def _train_apart(config: ConfigDict, folder: Path) -> bool:
    """Trains in a process of its own, since a backend is set up once a process; returns whether the run is finished.

    Raises Interrupted where a signal stopped it.
    """
    process = multiprocessing.get_context("spawn").Process(target=_run, args=(config, folder), name=folder.name)
    received = []

    def forward(number, frame):
        received.append(number)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)

    process.start()
    before = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        process.join()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        raise Interrupted(received[-1])
    if process.exitcode < 0:
        log.error("%s was ended by %s.", folder, signal.Signals(-process.exitcode).name)
    return process.exitcode == 0


def _run(config: ConfigDict, folder: Path) -> None:
    """The process of a run: a Ctrl-C reaches it through the study alone, and it ends with the study."""
    os.setpgrp()
    console.set_up()
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    try:
        if folder.exists():
            with RunFolder(folder).locked(patience=PATIENCE):
                pass  # the run of a study that was just killed has saved, and ended
        commands.train(config, folder)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except Interrupted as stop:
        sys.exit(stop.exit_status)


def _stop_with_parent() -> None:
    multiprocessing.parent_process().join()
    os.kill(os.getpid(), signal.SIGTERM)  # saves, then stops
