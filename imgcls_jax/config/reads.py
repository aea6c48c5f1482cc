"""Which options of a config are read: a given one that nothing reads is without effect, and is named.

A `Recorded` config notes the paths of the options that are asked for, one by one; what goes over all of them, as for
config.json, notes nothing.
"""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

SHOWN = ("data.name",)  # which a run's page reads, from config.json


@dataclasses.dataclass
class _Reads:
    """What was read of a config and of all its copies."""

    paths: set[str] = dataclasses.field(default_factory=set)
    paused: int = 0

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        self.paused += 1
        try:
            yield
        finally:
            self.paused -= 1


class Recorded(ConfigDict):
    """A config that notes what is read of it and of its copies; `given` has the paths that the command line set."""

    _reads = _Reads(paused=1)
    _at = ""  # before the paths of its own options
    _origins: Mapping[str, str] = {}
    _given: tuple[str, ...] = ()

    def _join(self, reads: _Reads, at: str, origins: Mapping[str, str]) -> None:
        for name, value in {"_reads": reads, "_at": at, "_origins": origins}.items():
            object.__setattr__(self, name, value)
        for key, value in self._fields.items():
            if isinstance(value, Recorded):
                value._join(reads, f"{at}{key}.", origins)

    def __getitem__(self, key):
        if not self._reads.paused:
            path = f"{self._at}{key}"
            self._reads.paths.add(self._origins.get(path, path))
        return super().__getitem__(key)

    def items(self, *args, **options):
        with self._reads.pause():
            return super().items(*args, **options)

    def values(self, *args, **options):
        with self._reads.pause():
            return super().values(*args, **options)

    def to_dict(self, *args, **options):
        with self._reads.pause():
            return super().to_dict(*args, **options)

    def update(self, *args, **options):
        with self._reads.pause():
            return super().update(*args, **options)

    def update_from_flattened_dict(self, *args, **options):
        with self._reads.pause():
            return super().update_from_flattened_dict(*args, **options)

    def copy_and_resolve_references(self, visit_map=None):
        copy = super().copy_and_resolve_references(visit_map)
        copy._join(self._reads, self._at, self._origins)
        object.__setattr__(copy, "_given", self._given)
        return copy


def recorded(config: ConfigDict, given: Iterable[str]) -> Recorded:
    """A copy of the config that notes what is read of it."""
    copy = _copied(config.copy_and_resolve_references())
    copy._join(_Reads(), "", {})
    object.__setattr__(copy, "_given", tuple(given))
    if config.is_locked:
        copy.lock()
    return copy


def _copied(config: ConfigDict) -> Recorded:
    copy = Recorded(type_safe=config.is_type_safe)
    for key, value in config.items():
        copy[key] = _copied(value) if isinstance(value, ConfigDict) else value
    return copy


def changed(config: ConfigDict, options: Mapping[str, Any], *, at: str) -> None:
    """Changes options of a copy, whose values are from now on those of the paths below `at`, as in a phase."""
    config.update_from_flattened_dict(options)
    if isinstance(config, Recorded):
        config._join(
            config._reads, "", {**config._origins, **{path: f"{at}{path}" for path in options}}
        )


def given(config: ConfigDict, section: str) -> list[str]:
    """The options of a section that the command line set, without the section's name."""
    paths = config._given if isinstance(config, Recorded) else ()
    return [path.removeprefix(f"{section}.") for path in paths if path.startswith(f"{section}.")]


def note(config: Recorded, paths: Iterable[str]) -> None:
    """Notes that options were read, with all that is below them."""
    config._reads.paths.update(paths)


def unread(config: ConfigDict) -> list[str]:
    """A sentence on each option that the command line set and that nothing has read so far."""
    if not isinstance(config, Recorded):
        return []
    read = {*config._reads.paths, *SHOWN}
    return [_sentence(config, path) for path in config._given if not read & {path, *_whole(path)}]


def _whole(path: str) -> list[str]:
    """The options that hold this one and that are read as a whole, if at all: those of models inside a model."""
    return ["model.options"] if path.startswith("model.options.") else []


def _sentence(config: Recorded, path: str) -> str:
    section = path.rpartition(".")[0]
    with config._reads.pause():
        name = config[section].get("name") if section in config else None
    chosen = f" ({section}.name is {name!r})" if isinstance(name, str) else ""
    return f"config.{path} was given and has no effect: nothing here reads it{chosen}."
