"""Phases: parts of a training that follow each other, each with options of its own.

`config.adapt.phases` has them by name, and they run in the order of their names. Each says what differs from the run's
config, as in {"phase1": {"adapt": {"trainable": ("^fc/",)}, "train": {"epochs": 5}}, "phase2": {...}}. A phase starts
from the weights with which the one before ended, with a new optimizer state, schedule and patience; the best checkpoint
is that of the whole training. The images of validation and test go through the run's own transform in every phase, so
that one with smaller images (progressive resizing) is judged at the size that counts.
"""

import difflib

from ml_collections import ConfigDict

from imgcls_jax.config import reads
from imgcls_jax.config.options import flat_options
from imgcls_jax.errors import ConfigError

OPTIONS = (  # what a phase may change, or the start of it
    "adapt.frozen_statistics",
    "adapt.last_layers",
    "adapt.trainable",
    "data.transform",
    "optimizer.",
    "schedule.",
    "train.early_stopping",
    "train.epochs",
    "train.label_smoothing",
)


def of(config: ConfigDict) -> dict[str, ConfigDict]:
    """The whole config of each phase by its name, in order; of a config without phases, itself under "".

    Raises ConfigError for an option that no phase can change, or that there is not.
    """
    phases = config.get("adapt", {}).get("phases", {})
    return {name: _phase(config, name, phases[name]) for name in sorted(phases)} or {"": config}


def _phase(config: ConfigDict, name: str, changes: ConfigDict) -> ConfigDict:
    known = [option for option in flat_options(config) if option.startswith(OPTIONS)]
    changed = flat_options(changes)
    for option in changed:
        if option not in known:
            near = ", ".join(difflib.get_close_matches(option, known, n=3, cutoff=0.0))
            raise ConfigError(
                f"config.adapt.phases.{name} changes {option}, which a phase cannot. The nearest that it can: {near}."
            )
    phase = config.copy_and_resolve_references()
    reads.changed(phase, changed, at=f"adapt.phases.{name}.")
    return phase
