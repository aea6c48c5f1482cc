"""Options by their sections, as configs/base.py and docs/options.md list them."""

import dataclasses
from collections.abc import Mapping

from imgcls_jax.config.options import Option


@dataclasses.dataclass(frozen=True)
class OptionGroup:
    """Options whose paths begin alike. sections: the paths of the sections they are in."""

    title: str
    sections: tuple[str, ...]
    options: dict[str, Option]


def groups(options: Mapping[str, Option]) -> list[OptionGroup]:
    """Returns the options by the first part of their paths, in order; those of the run first."""
    by_title: dict[str, dict[str, Option]] = {}
    for path, option in options.items():
        title, _, rest = path.partition(".")
        by_title.setdefault(title if rest else "run", {})[path] = option
    result = []
    for title, members in by_title.items():
        sections = dict.fromkeys(path.rpartition(".")[0] for path in members)
        sections.pop("", None)
        result.append(OptionGroup(title, tuple(sections), members))
    return result
