"""Every option of a study with its default and its meaning; the studies start from this one.

    python launch.py --config configs/studies/NAME.py --dry_run

lists the runs, with parameters and estimated times.
"""

import importlib.util

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.name = ""  # of the study; its runs are in runs/NAME
    config.title = ""  # of its table
    config.seeds = (0,)  # each row is trained with each of them
    config.quick = 0.0  # share of the images for a trial of every row; 0 for whole runs
    # Pairs of an option and its values: each row is trained with every combination of them.
    config.grid = ()
    # Pairs of an option and its range, as texts: ("optimizer.learning_rate", "log_uniform(1e-4, 1e-1)")
    # or uniform(low, high), integers(low, high), choice(one, other). Then the one row is trained in
    # trials with options from these ranges, which are ranked by the validation metric.
    config.search = ()
    config.trials = 20  # of a search; more than before go on with it
    config.sampler = "random"  # or "optuna", which chooses by the trials before
    config.search_seed = 0  # of the sampler
    # Hours after which the current run is saved and stopped, and no other begins; 0 for no limit.
    config.budget = 0.0
    config.needs = ConfigDict()  # configs by name that are trained first, as runs/NAME
    # By label: "config", "reported" figures of the row, and "seeds" of its own, if any.
    config.rows = ConfigDict()
    return config


def of_config(name: str, *, study: str) -> ConfigDict:
    """A study whose one row is configs/NAME.py. study: the file here that it is made for."""
    if importlib.util.find_spec(f"configs.{name}") is None:
        raise ValueError(
            f"There is no configs/{name}.py: give --config configs/studies/{study}.py:NAME."
        )
    config = get_config()
    config.name = f"{name}_{study}"
    config.title = f"A {study} over configs/{name}.py"
    config.rows = ConfigDict(
        {name: {"config": importlib.import_module(f"configs.{name}").get_config()}}
    )
    return config
