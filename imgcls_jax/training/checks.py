"""What each option of a config may be. `check` looks at all of them before any data is read.

`OPTIONS` has a line for every option of configs/base.py, and a test holds it to that; models and objectives bring
options of their own. What depends on the data, or on the number of devices, is found where those are known.
"""

import dataclasses
import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from ml_collections import ConfigDict

from imgcls_jax import models
from imgcls_jax.config.options import flat_options
from imgcls_jax.data.sources import SOURCES
from imgcls_jax.data.transforms import parse
from imgcls_jax.data.views import VIEWS
from imgcls_jax.errors import ConfigError, RunError, choose, is_utf8
from imgcls_jax.models import MODELS
from imgcls_jax.run.folder import CONFIG, RunFolder
from imgcls_jax.training import objectives, phases, schedules
from imgcls_jax.training.adapt import STATISTICS
from imgcls_jax.training.objectives import OBJECTIVES
from imgcls_jax.training.optimizers import OPTIMIZERS
from imgcls_jax.training.schedules import SCHEDULES

LONGEST_NAME = 200  # characters, of the 255 bytes that file systems have for a name


@dataclasses.dataclass(frozen=True)
class Number:
    """A number from `low` to `high`, either of them left out where it is `open`: "", "low", "high" or "both"."""

    low: float = 0
    high: float = math.inf
    open: str = ""
    noun: ClassVar[str] = "a number, finite in float32"
    limit: ClassVar[float] = 3.4e38

    def remedy(self, value: Any) -> str:
        """What would be accepted in the place of `value`; "" where it is."""
        if (
            isinstance(value, bool)
            or not isinstance(value, int | self._type)
            or not abs(value) <= self.limit
        ):
            return f"give {self.noun}, {self}"
        above = value > self.low if self.open in ("low", "both") else value >= self.low
        below = value < self.high if self.open in ("high", "both") else value <= self.high
        return "" if above and below else f"give {self}"

    _type: ClassVar[type] = float

    def __str__(self) -> str:
        low = f"above {self.low:,}" if self.open in ("low", "both") else f"{self.low:,}"
        if self.low == -math.inf:
            return "of either sign"
        if self.high == math.inf:
            return low if self.open else f"{low} or more"
        least = low if self.open in ("low", "both") else f"at least {low}"
        return (
            f"{least} and {'below' if self.open in ('high', 'both') else 'at most'} {self.high:,}"
        )


@dataclasses.dataclass(frozen=True)
class Whole(Number):
    noun = "a whole number below 2**31"
    limit = 2**31 - 1
    _type = int


class Bytes(Whole):
    noun = "a whole number below 2**63"
    limit = 2**63 - 1


class Portion(Number):
    """A share of the examples, or a number of them."""

    noun = "a share below 1 or a whole number of examples"

    def remedy(self, value):
        wrong = super().remedy(value)
        return wrong or (f"give {self.noun}" if value >= 1 and value != int(value) else "")


class Flag:
    def remedy(self, value):
        return "" if isinstance(value, bool) else "give True or False"


@dataclasses.dataclass(frozen=True)
class Text:
    optional: bool = False  # whether None serves

    def remedy(self, value):
        if value is None and self.optional:
            return ""
        if not isinstance(value, str) or "\0" in value:
            return "give a text, without zero bytes"
        if not is_utf8(value):
            return "give a text that is UTF-8; a file or folder of another name has to be renamed"
        return ""


class FileName(Text):
    def remedy(self, value):
        if wrong := super().remedy(value):
            return wrong
        fits = not value or (
            "/" not in value and value not in (".", "..") and len(value) <= LONGEST_NAME
        )
        return (
            ""
            if fits
            else f"give a file's name, without slashes, of at most {LONGEST_NAME} characters"
        )


class Pattern(Text):
    def remedy(self, value):
        if wrong := super().remedy(value):
            return wrong
        try:
            re.compile(value)
        except (re.error, OverflowError, RecursionError) as error:
            return f"give a regular expression; that is none ({error})"
        return ""


@dataclasses.dataclass(frozen=True)
class OneOf:
    what: str
    table: Mapping[str, Any]

    def remedy(self, value):
        if not isinstance(value, str):
            return f"give one of {', '.join(self.table)}"
        choose(self.what, value, self.table)
        return ""


@dataclasses.dataclass(frozen=True)
class Several:
    """A tuple of what `of` accepts, at least `least`."""

    of: Any
    least: int = 0

    def remedy(self, value):
        if not isinstance(value, tuple | list):
            return "give a tuple, as in (1,) or ('a',)"
        if len(value) < self.least:
            return f"give at least {self.least}"
        return next((f"of each, {wrong}" for one in value if (wrong := self.of.remedy(one))), "")


@dataclasses.dataclass(frozen=True)
class Pair:
    first: Any
    second: Any

    def remedy(self, value):
        if not isinstance(value, tuple | list) or len(value) != 2:
            return "give a pair"
        return self.first.remedy(value[0]) or self.second.remedy(value[1])


SEED = Whole(0)
SHARE = Number(0, 1)
BELOW_1 = Number(0, 1, "high")
POSITIVE = Number(0, open="low")
MONITORS = dict.fromkeys(("accuracy", "loss"))
PRECISIONS = dict.fromkeys(("float32", "bfloat16"))
OPTIONS = {
    "name": FileName(optional=True),
    "seed": SEED,
    "data.source": OneOf("data source (data.source)", SOURCES),
    "data.name": Text(),
    "data.path": Text(optional=True),
    "data.validation": Portion(0, open="low"),
    "data.train": Portion(0),
    "data.drawn": Whole(0, 100_000),
    "data.test": Portion(0),
    "data.split_seed": SEED,
    "data.image_size": Whole(0, 10_000),
    "data.transform": Text(),
    "data.device_budget": Bytes(0),
    "data.cache": Text(),
    "model.name": OneOf("model (model.name)", MODELS),
    "model.pretrained": Text(optional=True),
    "model.max_parameters": Bytes(0),
    "pretrained.cache": Text(),
    "train.epochs": Whole(1),
    "train.batch_size": Whole(1),
    "train.eval_batch_size": Whole(1),
    "train.precision": OneOf("train.precision", PRECISIONS),
    "train.label_smoothing": BELOW_1,
    "train.monitor": OneOf("train.monitor", MONITORS),
    "train.early_stopping": Whole(0),
    "train.steps_per_dispatch": Whole(1),
    "train.average": BELOW_1,
    "train.views": OneOf("set of views (train.views)", VIEWS),
    "train.cpu_devices": Whole(1, 256),
    "train.winograd": Flag(),
    "adapt.trainable": Several(Pattern()),
    "adapt.last_layers": Whole(0),
    "adapt.frozen_statistics": OneOf("adapt.frozen_statistics", STATISTICS),
    "adapt.feature_cache": Bytes(0),
    "adapt.feature_folder": Text(),
    "adapt.feature_disk": Bytes(0),
    "adapt.lora.targets": Several(Pattern()),
    "adapt.lora.rank": Whole(1),
    "adapt.lora.alpha": POSITIVE,
    "adapt.lora.full": Flag(),
    "optimizer.name": OneOf("optimizer (optimizer.name)", OPTIMIZERS),
    "optimizer.learning_rate": POSITIVE,
    "optimizer.weight_decay": Number(0),
    "optimizer.decay_vectors": Flag(),
    "optimizer.multipliers": Several(Pair(Pattern(), Number(0))),
    "optimizer.momentum": BELOW_1,
    "optimizer.nesterov": Flag(),
    "optimizer.beta1": BELOW_1,
    "optimizer.beta2": BELOW_1,
    "optimizer.eps": Number(0),
    "optimizer.clip_norm": Number(0),
    "optimizer.clip_value": Number(0),
    "schedule.name": OneOf("schedule (schedule.name)", SCHEDULES),
    "schedule.warmup_epochs": Number(0),
    "schedule.final": SHARE,
    "schedule.step_epochs": Several(POSITIVE),
    "schedule.factor": Number(0, 1, "low"),
    "schedule.patience": Whole(1),
    "schedule.min_rate": Number(0),
    "schedule.peak_at": Number(0, 1, "both"),
}
OBJECTIVE = {"name": OneOf("objective (objective.name)", OBJECTIVES), "teacher": Text()}
OBJECTIVE |= {"temperature": POSITIVE, "weight": SHARE}
# The options of models by their types, but for those whose names say more.
WIDTH = Whole(1, 65_536)
MODEL_TYPES = {
    bool: Flag(),
    int: WIDTH,
    float: BELOW_1,
    str: Text(),
    Sequence[int]: Several(WIDTH, least=1),
    Sequence[str]: Several(Text(), least=1),
}
MODEL_NAMES = {"projection": Whole(0, WIDTH.high), "logit_scale": POSITIVE}
SECTIONS = ("model", "objective", "adapt.phases")  # which have further options
# What the config of a finished run may lack: nothing but training asks for it, or it came with a later version.
DISPENSABLE = (
    *("adapt.feature", "adapt.last_layers", "pretrained.", "optimizer.", "schedule."),
    *("data.train", "data.drawn", "data.device_budget", "model.max_parameters", "model.pretrained"),
    *("train.average", "train.cpu_devices", "train.views", "train.winograd"),
)


def check(config: ConfigDict, *, at: str = "") -> None:
    """Raises ConfigError for the first option that is missing, unknown or cannot be, or not with the others.

    at: before the paths of the options in errors, such as "rows.cnn.config.".
    """
    _check(flat_options(config), at)
    for option in OPTIONS:
        if option not in flat_options(config) and option not in DISPENSABLE:
            raise ConfigError(
                f"{at}{option} is missing: start from configs/base.py, which has every option."
            )
    for option in flat_options(config):
        if option not in OPTIONS and not option.startswith(
            tuple(f"{section}." for section in SECTIONS)
        ):
            near = ", ".join(difflib.get_close_matches(option, OPTIONS, n=3, cutoff=0.0))
            raise ConfigError(f"There is no option {at}{option}. The nearest: {near}.")
    _check_sections(config, at)
    _check_model(config.model.to_dict(), f"{at}model")
    for name, phase in phases.of(config).items():
        _check_together(phase, f"{at}adapt.phases.{name}." if name else at)


def of_run(run: RunFolder) -> ConfigDict:
    """The config of a run's folder. Raises RunError where that cannot have been one."""
    config = run.config
    try:
        flat = flat_options(config)
        for option in OPTIONS:
            absent = option.startswith("adapt.") and "adapt" not in config
            if option not in flat and not absent and not option.startswith(DISPENSABLE):
                raise ConfigError(f"{option} is missing.")
        _check(flat, "")
        _check_sections(config, "")
        _check_model(config.model.to_dict(), "model")
        parse(config.data.transform)
        phases.of(config)
    except ConfigError as error:
        raise RunError(f"{run.path / CONFIG} is damaged, or of another version: {error}") from error
    return config


def _check(options: Mapping[str, Any], at: str) -> None:
    """Each of these options, without looking at the others."""
    for option, value in options.items():
        if option in SECTIONS or any(known.startswith(f"{option}.") for known in OPTIONS):
            raise ConfigError(f"{at}{option} is {_short(value)}: it holds options of its own.")
        if leaf := next((known for known in OPTIONS if option.startswith(f"{known}.")), ""):
            raise ConfigError(
                f"{at}{leaf} has {option.removeprefix(leaf)[1:]}: it holds no options, give its value."
            )
        if option in OPTIONS:
            _refuse(f"{at}{option}", OPTIONS[option], value)


def _check_sections(config: ConfigDict, at: str) -> None:
    objective = config.get("objective") or {}
    for key, value in objective.items():
        if key in OBJECTIVE:
            _refuse(f"{at}objective.{key}", OBJECTIVE[key], value)
    for name, changes in config.get("adapt", {}).get("phases", {}).items():
        if not isinstance(changes, Mapping | ConfigDict):
            raise ConfigError(
                f"{at}adapt.phases.{name} is {_short(changes)}: it holds options of its own."
            )
        _check(flat_options(changes), f"{at}adapt.phases.{name}.")


def _check_model(options: Mapping[str, Any], at: str) -> None:
    """The options of a model, `name` among them, and of the models inside it."""
    types = models.options(options["name"])
    for key, value in options.items():
        if key in types and types[key] is not Any:
            _refuse(f"{at}.{key}", MODEL_NAMES.get(key) or MODEL_TYPES[types[key]], value)
    inside = options.get("options") or {}
    if not isinstance(inside, Mapping):
        raise ConfigError(f"{at}.options is {_short(inside)}: it holds options of its own.")
    if options["name"] == "simclr":
        inside = {
            options.get(
                "backbone", models.create(ConfigDict(options), num_classes=2).backbone
            ): inside
        }
    for name, own in inside.items():
        choose(f"model ({at}.options)", name, MODELS)
        if not isinstance(own, Mapping):
            raise ConfigError(f"{at}.options.{name} is {_short(own)}: it holds options of its own.")
        _check_model({**own, "name": name}, f"{at}.options")
    for name in options.get("backbones", ()):
        choose(f"model ({at}.backbones)", name, MODELS)
    models.create(ConfigDict(options), num_classes=2)


def _check_together(config: ConfigDict, at: str) -> None:
    settings, optimizer, schedule = config.train, config.optimizer, config.schedule
    schedules.create(
        schedule, peak=optimizer.learning_rate, epochs=settings.epochs, steps_per_epoch=1000
    )
    if schedule.name == "plateau" and schedule.min_rate > optimizer.learning_rate:
        raise ConfigError(
            f"{at}schedule.min_rate is {schedule.min_rate}, above optimizer.learning_rate, {optimizer.learning_rate}: "
            "give at most that."
        )
    objectives.create(
        config, models.create(config.model, num_classes=2), parse(config.data.transform)
    )


def _refuse(option: str, kind: Any, value: Any) -> None:
    if remedy := kind.remedy(value):
        raise ConfigError(f"{option} is {_short(value)}: {remedy}.")


def _short(value: Any) -> str:
    text = " ".join((str if isinstance(value, ConfigDict) else repr)(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def check_study(config: ConfigDict, *, figures: Iterable[str]) -> None:
    """As `check`, of all that a study trains. figures: names of those that rows may have as reported."""
    _check_flat(config, {"name": OPTIONS["name"], "title": Text(), "seeds": Several(SEED, least=1)})
    _refuse("budget", Number(0), config.get("budget", 0.0))
    _check_seeds("seeds", config.seeds)
    for name, needed in _several(config, "needs"):
        check(needed, at=f"needs.{name}.")
    for label, row in _several(config, "rows", least=1):
        if not isinstance(row.get("config"), ConfigDict):
            raise ConfigError(f"rows.{label} has no config: give its config.")
        check(row.config, at=f"rows.{label}.config.")
        if "seeds" in row:
            _check_seeds(f"rows.{label}.seeds", row.seeds)
        for figure, value in (row.get("reported") or {}).items():
            choose(f"figure (rows.{label}.reported)", figure, dict.fromkeys(figures))
            _refuse(f"rows.{label}.reported.{figure}", Number(-math.inf), value)


def _check_seeds(option: str, seeds: Sequence[int]) -> None:
    _refuse(option, Several(SEED, least=1), seeds)
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"{option} is {_short(seeds)}: give each seed once.")


def check_ensemble(config: ConfigDict) -> None:
    """The same of an ensemble's members; evaluation/ensemble.py knows the weights."""
    _check_flat(config, {"name": OPTIONS["name"], "weights": Text()})
    for name, member in _several(config, "members", least=2):
        check(member, at=f"members.{name}.")


def _check_flat(config: ConfigDict, kinds: Mapping[str, Any]) -> None:
    for option, kind in kinds.items():
        if option not in config and option != "name":
            raise ConfigError(f"{option} is missing: give config.{option}.")
        _refuse(option, kind, config.get(option))


def _several(config: ConfigDict, section: str, *, least: int = 0) -> list[tuple[str, ConfigDict]]:
    """The configs in a section, by names that can be folders'."""
    found = config.get(section) or ConfigDict()
    if not isinstance(found, ConfigDict) or len(found) < least:
        raise ConfigError(
            f"{section} is {_short(found)}: it holds {least} or more configs by their names."
        )
    for name, one in found.items():
        _refuse(f"a name in {section}", FileName(), name)
        if not isinstance(one, ConfigDict):
            raise ConfigError(f"{section}.{name} is {_short(one)}: it should be a config.")
    return list(found.items())
