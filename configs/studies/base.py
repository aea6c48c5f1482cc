"""Every option of a study with its default and its meaning; the studies start from this one.

python launch.py --config configs/studies/NAME.py --dry_run     lists the runs, with parameters and estimated times
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.name = ""  # of the study, whose runs lie in runs/NAME
    config.title = ""  # of its table
    config.seeds = (0,)  # each row is trained with each
    config.grid = ()  # pairs of an option and its values: each row is trained with every combination of them
    config.budget = 0.0  # hours after which no more is trained, and what is under way saved and stopped; 0 for no end
    config.needs = ConfigDict()  # configs by name that are trained first, as runs/NAME
    config.rows = (
        ConfigDict()
    )  # by label: "config", "reported" figures of it elsewhere, and "seeds" of its own, if any
    return config
