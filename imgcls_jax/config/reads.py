"""Which options of a config are read: one that was given and that nothing reads has no effect.

A `Recorded` config notes the paths of the options that are asked for one by one; reading all of them at
once, as for config.json, notes nothing.
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
    """A config that notes what is read of it and of its copies.

    `_given` has the paths that the command line set. `_origins` has, for options that a phase changes,
    the paths that they were given under.
    """

    _reads = _Reads(paused=1)
    _prefix = ""  # of the paths of this section's options
    _origins: Mapping[str, str] = {}
    _given: tuple[str, ...] = ()

    def _join(self, reads: _Reads, prefix: str, origins: Mapping[str, str]) -> None:
        object.__setattr__(self, "_reads", reads)
        object.__setattr__(self, "_prefix", prefix)
        object.__setattr__(self, "_origins", origins)
        for key, value in self._fields.items():
            if isinstance(value, Recorded):
                value._join(reads, f"{prefix}{key}.", origins)

    def __getitem__(self, key):
        if not self._reads.paused:
            path = f"{self._prefix}{key}"
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
        copy._join(self._reads, self._prefix, self._origins)
        object.__setattr__(copy, "_given", self._given)
        return copy


def recorded(config: ConfigDict, given: Iterable[str]) -> Recorded:
    """Returns a copy of the config that notes what is read of it.

    given: the paths of the options that the command line set.
    """
    copy = _copy(config.copy_and_resolve_references())
    copy._join(_Reads(), "", {})
    object.__setattr__(copy, "_given", tuple(given))
    if config.is_locked:
        copy.lock()
    return copy


def _copy(config: ConfigDict) -> Recorded:
    copy = Recorded(type_safe=config.is_type_safe)
    for key, value in config.items():
        copy[key] = _copy(value) if isinstance(value, ConfigDict) else value
    return copy


def changed(config: ConfigDict, options: Mapping[str, Any], *, at: str) -> None:
    """Changes options of a phase's copy; reading them is reading the paths below `at`."""
    config.update_from_flattened_dict(options)
    if isinstance(config, Recorded):
        origins = {path: f"{at}{path}" for path in options}
        config._join(config._reads, "", {**config._origins, **origins})


def given(config: ConfigDict, section: str) -> list[str]:
    """Returns the options of a section that the command line set, without the section's name."""
    if not isinstance(config, Recorded):
        return []
    prefix = f"{section}."
    return [path.removeprefix(prefix) for path in config._given if path.startswith(prefix)]


def note(config: Recorded, paths: Iterable[str]) -> None:
    """Notes that options were read, with all that is below them."""
    config._reads.paths.update(paths)


def paused(config: ConfigDict) -> contextlib.AbstractContextManager[None]:
    """Returns a context in which reading options of the config, or of a copy, notes nothing."""
    if isinstance(config, Recorded):
        return config._reads.pause()
    return contextlib.nullcontext()


def unread(config: ConfigDict) -> list[str]:
    """Returns a sentence on each option that the command line set and that nothing has read so far."""
    if not isinstance(config, Recorded):
        return []
    read = {*config._reads.paths, *SHOWN}
    sentences = []
    for path in config._given:
        # Options of models inside a model are read as a whole.
        is_inner = path.startswith("model.options.") and "model.options" in read
        if path not in read and not is_inner:
            sentences.append(_sentence(config, path))
    return sentences


def _sentence(config: Recorded, path: str) -> str:
    section = path.rpartition(".")[0]
    name = None
    with config._reads.pause():
        if section in config:
            name = config[section].get("name")
    chosen = f" ({section}.name is {name!r})" if isinstance(name, str) else ""
    return f"config.{path} was given and has no effect: nothing here reads it{chosen}."
