"""Studies: a named list of configs, each trained with several seeds, that end in one table."""

import logging
from pathlib import Path

from ml_collections import ConfigDict

from imgcls_jax import commands
from imgcls_jax.errors import ConfigError, RunError
from imgcls_jax.run_folder import RunFolder

log = logging.getLogger(__name__)


def train(config: ConfigDict, workdir: Path) -> None:
    """Trains every row of the study with every seed, in turn, and writes the comparison beside the run folders.

    Each run lies in `workdir`/ROW-seedN and follows commands.train: what is finished is not repeated, what was
    interrupted goes on.
    """
    from imgcls_jax.reporting import compare

    if not config.seeds:
        raise ConfigError("config.seeds is empty: give at least one seed, as in --config.seeds=0,")
    total, groups = len(config.rows) * len(config.seeds), []
    for label, row in config.rows.items():
        runs = []
        for seed in config.seeds:
            row_config = row.config.copy_and_resolve_references()
            row_config.seed = seed
            number = len(groups) * len(config.seeds) + len(runs) + 1
            log.info("\n%s: run %d of %d, %s with seed %d", workdir.name, number, total, label, seed)
            runs.append(commands.train(row_config, workdir / f"{label}-seed{seed}"))
        groups.append((label, row.get("reported", ConfigDict()).to_dict(), runs))
    rows = compare.summarize(groups)
    compare.write(rows, workdir, title=config.title)
    log.info("\n%s\n%s", compare.markdown(rows), workdir / "table.md")


def compare(folders: list[str]) -> None:
    """Prints one table of several finished runs; runs whose configs differ in nothing but the seed share a row."""
    from imgcls_jax.reporting import compare

    runs = [RunFolder(folder) for folder in folders]
    if not runs:
        raise RunError("No run folders given: python launch.py --mode compare runs/NAME runs/OTHER.")
    groups: dict[str, list[RunFolder]] = {}
    for run in runs:
        config = run.config
        config.seed = 0
        groups.setdefault(config.to_json_best_effort(), []).append(run)
    print(compare.markdown(compare.summarize([(group[0].name, {}, group) for group in groups.values()])))
