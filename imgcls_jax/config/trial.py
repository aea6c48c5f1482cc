"""A quick trial (`config.quick`): a share of the images and few epochs, in a folder of its own."""

from ml_collections import ConfigDict

EPOCHS = 2  # at most, of each phase
WARMUP_EPOCHS = 1.0  # at most


def shortened(config: ConfigDict) -> ConfigDict:
    """Returns the config of a run with at most EPOCHS epochs a phase if it is a trial."""
    if not config.get("quick"):
        return config
    config = config.copy_and_resolve_references()
    for part in (config, *config.adapt.phases.values()):
        _limit(part, "train", "epochs", EPOCHS)
        _limit(part, "schedule", "warmup_epochs", WARMUP_EPOCHS)
    return config


def _limit(config: ConfigDict, section: str, option: str, most: float) -> None:
    """Lowers an option to `most`, where the config has it."""
    if section in config and option in config[section]:
        config[section][option] = min(config[section][option], most)


def folder_name(name: str, config: ConfigDict) -> str:
    """Returns the name of the folder of a run or study: a trial has one of its own."""
    if config.get("quick"):
        return f"{name}-trial"
    return name


def warning(config: ConfigDict) -> str:
    """Returns a sentence on the figures of a trial, "" for whole runs."""
    text = description(config.get("quick", 0.0))
    if not text:
        return ""
    return f"It is {text}: its figures are no results."


def description(quick: float) -> str:
    """Returns what a trial is, "" for whole runs (0)."""
    if not quick:
        return ""
    return f"a trial on {100 * quick:.3g} % of the images"
