"""Phases: parts of a training that follow each other, each with options of its own.

`config.adapt.phases` has them by name, and they run in the order of their names. Each gives what
differs from the run's config, as in {"phase1": {"adapt": {"trainable": ("^fc/",)}, "train": {"epochs":
5}}, "phase2": {...}}. A phase starts from the weights at the end of the one before, with a new optimizer
state, schedule and patience; the best checkpoint is that of the whole training. The images of
validation and test go through the run's own transform in every phase, so that a phase with smaller
images (progressive resizing) is judged at the size that counts.
"""

import difflib

from ml_collections import ConfigDict

from imgcls_jax.config import reads
from imgcls_jax.config.options import flat_options, renamed
from imgcls_jax.errors import ConfigError

OPTIONS = (  # what a phase may change, or the start of it
    "adapt.frozen_statistics",
    "adapt.last_layers",
    "adapt.trainable",
    "data.transform",
    "optimizer.",
    "schedule.",
    "train.balanced_sampling",
    "train.class_weights",
    "train.early_stopping",
    "train.epochs",
    "train.focal_gamma",
    "train.label_smoothing",
    "train.logit_adjustment",
)


def of(config: ConfigDict) -> dict[str, ConfigDict]:
    """Returns the whole config of each phase by name, in order; without phases the config under "".

    Raises ConfigError for an option that a phase cannot change, or that there is not.
    """
    phases = config.adapt.phases
    if not phases:
        return {"": config}
    return {name: _phase(config, name, phases[name]) for name in sorted(phases)}


def _phase(config: ConfigDict, name: str, changes: ConfigDict) -> ConfigDict:
    changeable = [path for path in flat_options(config) if path.startswith(OPTIONS)]
    changed = flat_options(changes)
    for path in changed:
        if path not in changeable:
            nearest = difflib.get_close_matches(path, changeable, n=3, cutoff=0.0)
            hint = renamed(path) or f"The nearest that it can: {', '.join(nearest)}."
            raise ConfigError(
                f"config.adapt.phases.{name} changes {path}, which a phase cannot. {hint}"
            )
    phase = config.copy_and_resolve_references()
    reads.changed(phase, changed, at=f"adapt.phases.{name}.")
    return phase
