"""Figures compared with the same computed again."""

import dataclasses
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from imgcls_jax.errors import RunError

Figures = Mapping[str, Any]
# What follows from classes, labels and counts alone. Rounding does not change a predicted class.
EXACT = 1e-9
MAX_NAMED = 20


@dataclasses.dataclass
class Check:
    """A published figure, and the same computed again."""

    where: str
    published: Any
    again: Any
    tolerance: float

    @property
    def holds(self) -> bool:
        is_figure = isinstance(self.published, int | float)
        if not is_figure or not isinstance(self.again, float):
            return self.published == self.again
        return math.isclose(
            self.published, self.again, rel_tol=self.tolerance, abs_tol=self.tolerance
        )


def require_all(checks: Collection[Check]) -> None:
    """Raises RunError that names the first of the checks that do not hold."""
    wrong = [check for check in checks if not check.holds]
    if not wrong:
        return
    lines = [f"{len(wrong):,} of {len(checks):,} figures differ:"]
    for check in wrong[:MAX_NAMED]:
        lines.append(f"  {check.where}: {check.published} published, {check.again} now")
    if len(wrong) > MAX_NAMED:
        lines.append(f"  and {len(wrong) - MAX_NAMED} more")
    raise RunError("\n".join(lines))


def compare(published: Any, again: Any, where: str, *, tolerance: float = EXACT) -> Iterator[Check]:
    """A check of each figure in `again`, nested as in `published`."""
    if isinstance(again, Mapping) and isinstance(published, Mapping):
        for key, value in again.items():
            yield from compare(published.get(key), value, f"{where} {key}", tolerance=tolerance)
    elif _is_list(again) and _is_list(published):
        yield Check(f"{where} count", len(published), len(again), EXACT)
        for number, pair in enumerate(zip(published, again, strict=False)):
            yield from compare(*pair, f"{where} {number}", tolerance=tolerance)
    else:
        yield Check(where, published, again, tolerance)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
