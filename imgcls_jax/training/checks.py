"""Checks of a whole config before any data is read: each option alone, and options that go together.

What depends on the data or on the number of devices is checked where those are known.
"""

import difflib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from ml_collections import ConfigDict

from imgcls_jax import models
from imgcls_jax.config.kinds import (
    BELOW_1,
    POSITIVE,
    SEED,
    SHARE,
    Choice,
    FileName,
    Flag,
    Kind,
    Number,
    Section,
    Text,
    Tuple,
    Whole,
)
from imgcls_jax.config.options import OPTIONS, SECTIONS, flat_options, renamed, section_of
from imgcls_jax.data.folder import FITS
from imgcls_jax.data.sources import SOURCES
from imgcls_jax.data.transforms import parse
from imgcls_jax.data.views import VIEWS
from imgcls_jax.errors import ConfigError, RunError, choose
from imgcls_jax.models import MODELS
from imgcls_jax.pretrained import sources
from imgcls_jax.run.folder import CONFIG, RunFolder
from imgcls_jax.training import objectives, optimizers, parallel, phases, schedules, trackers
from imgcls_jax.training.adapt import STATISTICS
from imgcls_jax.training.metrics import METRICS
from imgcls_jax.training.objectives import OBJECTIVES
from imgcls_jax.training.optimizers import OPTIMIZERS
from imgcls_jax.training.schedules import SCHEDULES

PRECISIONS = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
# What the options of kind Choice may be: what it is called, and the table that has the names.
CHOICES: dict[str, tuple[str, Iterable[str]]] = {
    "data.source": ("data source (data.source)", SOURCES),
    "data.fit": ("data.fit", FITS),
    "model.name": ("model (model.name)", MODELS),
    "train.precision": ("train.precision", PRECISIONS),
    "train.monitor": ("train.monitor", METRICS),
    "train.tta": ("set of views (train.tta)", VIEWS),
    "train.parallel": ("train.parallel", parallel.BACKENDS),
    "adapt.frozen_statistics": ("adapt.frozen_statistics", STATISTICS),
    "objective": ("objective (objective.name)", OBJECTIVES),
    "optimizer.name": ("optimizer (optimizer.name)", OPTIMIZERS),
    "schedule.name": ("schedule (schedule.name)", SCHEDULES),
}
OPTIONAL = ("model.pretrained", "model.max_parameters")  # of a model given by its name and options
OBJECTIVE_KINDS = {"teacher": Text(), "temperature": POSITIVE, "weight": SHARE}
# The options of models by their types, and those whose names say more.
WIDTH = Whole(1, 65_536)
MODEL_KINDS = {
    bool: Flag(),
    int: WIDTH,
    float: BELOW_1,
    str: Text(),
    Sequence[int]: Tuple(WIDTH, least=1),
    Sequence[str]: Tuple(Text(), least=1),
}
MODEL_KINDS_BY_NAME = {"projection": Whole(0, WIDTH.high), "logit_scale": POSITIVE}


def choices_text(path: str) -> str:
    """Returns the names that an option may have: "adam | adamw | ..."."""
    _, names = CHOICES[path]
    return " | ".join(names)


def check(config: ConfigDict, *, at: str = "") -> None:
    """Raises ConfigError for the first option that is missing, unknown, or not acceptable.

    at: before the paths of the options in errors, such as "rows.cnn.config.".
    """
    options = flat_options(config)
    _check_values(options, at)
    content = config.to_dict()  # looking for an option is not reading it
    for path, option in OPTIONS.items():
        section = section_of(content, path)
        if section is None:
            if path in OPTIONAL:
                continue
            raise ConfigError(
                f"{at}{path} is missing: start from configs/base.py, which has every option."
            )
        value = section[path.rpartition(".")[2]]
        if value == {}:  # it holds no option that would be checked alone
            _check_value(f"{at}{path}", option.kind, value)
    _check_known(options, at)
    _check_sections(config, at)
    _check_model(config.model.to_dict(), f"{at}model")
    _check_pretrained(config.model)
    if config.train.tracker:
        trackers.writer_class(config.train.tracker)
    for name, phase in phases.of(config).items():
        _check_combinations(phase, f"{at}adapt.phases.{name}." if name else at)


def _check_pretrained(config: ConfigDict) -> None:
    """Raises RunError if the config of a run whose weights are taken cannot be that of a run."""
    for source in sources.by_model(config).values():
        run = RunFolder(source)
        if os.path.isfile(run.path / CONFIG):  # unlike Path.is_file, false for too long a name
            of_run(run)


def of_run(run: RunFolder) -> ConfigDict:
    """Returns the config of a run's folder. Raises RunError if it cannot be the config of a run."""
    config = run.config
    options = flat_options(config)
    try:
        for path, option in OPTIONS.items():
            if option.is_required and path not in options:
                raise ConfigError(f"{path} is missing.")
        _check_values(options, "")
        _check_sections(config, "")
        _check_model(config.model.to_dict(), "model")
        parse(config.data.transform)
        phases.of(config)
    except ConfigError as error:
        raise RunError(f"{run.path / CONFIG} is damaged, or of another version: {error}") from error
    return config


def _check_values(options: Mapping[str, Any], at: str) -> None:
    """Checks each of these options alone."""
    for path, value in options.items():
        if path in SECTIONS or any(known.startswith(f"{path}.") for known in OPTIONS):
            raise ConfigError(f"{at}{path} is {_short(value)}: it holds options of its own.")
        for known, option in OPTIONS.items():
            if path.startswith(f"{known}.") and not isinstance(option.kind, Section):
                rest = path.removeprefix(f"{known}.")
                raise ConfigError(f"{at}{known} has {rest}: it holds no options, give its value.")
        if path in OPTIONS:
            _check_value(f"{at}{path}", OPTIONS[path].kind, value)
            if isinstance(OPTIONS[path].kind, Choice):
                _check_choice(path, value)


def _check_choice(path: str, value: str) -> None:
    what, names = CHOICES[path]
    choose(what, value, dict.fromkeys(names))


def _check_known(options: Mapping[str, Any], at: str) -> None:
    """Raises ConfigError for an option that there is not."""
    further = tuple(f"{section}." for section in SECTIONS)
    for path in options:
        if path in OPTIONS or path.startswith(further):
            continue
        if new_name := renamed(path):
            raise ConfigError(f"There is no option {at}{path}: {new_name}")
        nearest = ", ".join(difflib.get_close_matches(path, OPTIONS, n=3, cutoff=0.0))
        raise ConfigError(f"There is no option {at}{path}. The nearest: {nearest}.")


def _check_sections(config: ConfigDict, at: str) -> None:
    """Checks the options of the objective, and those that phases change."""
    objective = config.get("objective") or {}
    for key, value in objective.items():
        if key in OBJECTIVE_KINDS:
            _check_value(f"{at}objective.{key}", OBJECTIVE_KINDS[key], value)
    if "name" in objective:
        _check_value(f"{at}objective.name", Choice(), objective["name"])
        _check_choice("objective", objective["name"])
    for name, changes in config.adapt.phases.items():
        if not isinstance(changes, Mapping | ConfigDict):
            raise ConfigError(
                f"{at}adapt.phases.{name} is {_short(changes)}: it holds options of its own."
            )
        _check_values(flat_options(changes), f"{at}adapt.phases.{name}.")


def _check_model(options: Mapping[str, Any], at: str) -> None:
    """Checks the options of a model, `name` among them, and of the models inside it."""
    types = models.options(options["name"])
    for key, value in options.items():
        if key in types and types[key] is not Any:
            kind = MODEL_KINDS_BY_NAME.get(key) or MODEL_KINDS[types[key]]
            _check_value(f"{at}.{key}", kind, value)
    inner = options.get("options") or {}
    if not isinstance(inner, Mapping):
        raise ConfigError(f"{at}.options is {_short(inner)}: it holds options of its own.")
    if options["name"] == "simclr":
        backbone = options.get("backbone")
        if backbone is None:
            backbone = models.create(ConfigDict(options), num_classes=2).backbone
        inner = {backbone: inner}
    for name, inner_options in inner.items():
        choose(f"model ({at}.options)", name, MODELS)
        if not isinstance(inner_options, Mapping):
            raise ConfigError(
                f"{at}.options.{name} is {_short(inner_options)}: it holds options of its own."
            )
        _check_model({**inner_options, "name": name}, f"{at}.options")
    for name in options.get("backbones", ()):
        choose(f"model ({at}.backbones)", name, MODELS)
    models.create(ConfigDict(options), num_classes=2)


def _check_combinations(config: ConfigDict, at: str) -> None:
    """Checks options that must go together."""
    peak = config.optimizer.learning_rate
    schedule = config.schedule
    schedules.create(schedule, peak=peak, epochs=config.train.epochs, steps_per_epoch=1000)
    if schedule.name == "plateau" and schedule.min_rate > peak:
        raise ConfigError(
            f"{at}schedule.min_rate is {schedule.min_rate}, above optimizer.learning_rate, {peak}: "
            "give at most that."
        )
    _check_average(config, at)
    data = config.data
    if data.folds == 1:
        raise ConfigError(f"{at}data.folds is 1: give 2 or more, or 0 for none.")
    if data.fold >= max(data.folds, 1):
        raise ConfigError(
            f"{at}data.fold is {data.fold}, and data.folds {data.folds}: give fewer than these."
        )
    model = models.create(config.model, num_classes=2)
    objectives.create(config, model, parse(config.data.transform))


def _check_average(config: ConfigDict, at: str) -> None:
    """Checks what an optimizer that validates an average of the weights cannot do."""
    optimizer = config.optimizer
    if not optimizers.averages(optimizer):
        return
    given = {
        "optimizer.multipliers": bool(optimizer.multipliers),
        "optimizer.beta1=0": not optimizer.beta1,
        "schedule.name=plateau": config.schedule.name == "plateau",
    }
    for option, is_given in given.items():
        if is_given:
            raise ConfigError(
                f"{at}optimizer.name is {optimizer.name!r}, whose average does not go with {option}: "
                "leave one of them out."
            )


def _check_value(path: str, kind: Kind, value: Any) -> None:
    if remedy := kind.remedy(value):
        raise ConfigError(f"{path} is {_short(value)}: {remedy}.")


def _short(value: Any) -> str:
    """Returns a value in at most 80 characters of one line."""
    text = str(value) if isinstance(value, ConfigDict) else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def check_study(config: ConfigDict, *, figures: Iterable[str]) -> None:
    """Checks all that a study trains. figures: names that the reported figures of rows may have."""
    _check_value("name", FileName(True), config.get("name"))
    _check_given(config, {"title": Text(), "seeds": Tuple(SEED, least=1)})
    _check_value("budget", Number(0), config.get("budget", 0.0))
    _check_value("quick", BELOW_1, config.get("quick", 0.0))
    _check_seeds("seeds", config.seeds)
    for name, needed in _configs_in(config, "needs"):
        check(needed, at=f"needs.{name}.")
    for label, row in _configs_in(config, "rows", least=1):
        if not isinstance(row.get("config"), ConfigDict):
            raise ConfigError(f"rows.{label} has no config: give its config.")
        check(row.config, at=f"rows.{label}.config.")
        if "seeds" in row:
            _check_seeds(f"rows.{label}.seeds", row.seeds)
        for figure, value in (row.get("reported") or {}).items():
            choose(f"figure (rows.{label}.reported)", figure, dict.fromkeys(figures))
            _check_value(f"rows.{label}.reported.{figure}", Number(-math.inf), value)


def check_ensemble(config: ConfigDict) -> None:
    """Checks an ensemble's members; evaluation/ensemble.py checks the weights."""
    _check_value("name", FileName(True), config.get("name"))
    _check_given(config, {"weights": Text()})
    for name, member in _configs_in(config, "members", least=2):
        check(member, at=f"members.{name}.")


def _check_given(config: ConfigDict, kinds: Mapping[str, Kind]) -> None:
    """Checks options that a study or an ensemble must have."""
    for key, kind in kinds.items():
        if key not in config:
            raise ConfigError(f"{key} is missing: give config.{key}.")
        _check_value(key, kind, config[key])


def _check_seeds(path: str, seeds: Sequence[int]) -> None:
    _check_value(path, Tuple(SEED, least=1), seeds)
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"{path} is {_short(seeds)}: give each seed once.")


def _configs_in(
    config: ConfigDict, section: str, *, least: int = 0
) -> list[tuple[str, ConfigDict]]:
    """Returns the configs in a section, by names that folders can have."""
    configs = config.get(section) or ConfigDict()
    if not isinstance(configs, ConfigDict) or len(configs) < least:
        raise ConfigError(
            f"{section} is {_short(configs)}: it holds {least} or more configs by their names."
        )
    for name, inner in configs.items():
        _check_value(f"a name in {section}", FileName(), name)
        if not isinstance(inner, ConfigDict):
            raise ConfigError(f"{section}.{name} is {_short(inner)}: it should be a config.")
    return list(configs.items())
