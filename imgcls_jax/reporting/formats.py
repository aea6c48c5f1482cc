"""How figures are written for people: percentages, intervals, durations, and values of JSON files."""

from collections.abc import Mapping
from typing import Any

UNKNOWN = "\N{EN DASH}"


def percentage(share: float) -> str:
    """`97.31`, for columns and axes that name the unit. It says 100 only if the share is 1."""
    text = f"{100 * share:.2f}"
    if text == "100.00" and share < 1:
        return "99.99"
    return text


def percent(share: float) -> str:
    """`97.31 %`."""
    return f"{percentage(share)} %"


def confidence(share: float) -> str:
    """`97.3 %`, which says 100 only if the share is 1."""
    if share < 1:
        return f"{min(100 * share, 99.9):.1f} %"
    return "100.0 %"


def interval(low: float, high: float, form: str = ".1f") -> str:
    """`[96.8, 97.9]` of shares, in percent or in percentage points."""
    return f"[{100 * low:{form}}, {100 * high:{form}}]"


def temperature(calibration: Mapping[str, Any]) -> str:
    """`1.28 [1.2, 1.36]`: a fitted temperature, and its interval where calibration.json has it."""
    fitted = f"{calibration['temperature']:.3g}"
    if "low" not in calibration:  # runs of older versions
        return fitted
    return f"{fitted} [{calibration['low']:.3g}, {calibration['high']:.3g}]"


def optional(value: float | None, form: str, *, scale: float = 1.0) -> str:
    """The scaled value in Python's format, such as ".2f"; a dash if there is none."""
    if value is None:
        return UNKNOWN
    return format(value * scale, form)


def when_trained(config: Mapping[str, Any]) -> str:
    """What is to be said after the number of trainable parameters, which is that of the last phase."""
    if config.get("adapt", {}).get("phases"):
        return " in the last phase"
    return ""


def duration(seconds: float) -> str:
    """`9.1 s`, `42 s`, `1 min 15 s` or `1 h 4 min`."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, seconds = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s"
    return f"{minutes // 60} h {minutes % 60} min"


def quantity(count: int, noun: str) -> str:
    """`1 image`, `2,000 images`."""
    plural = "" if count == 1 else "s"
    return f"{count:,} {noun}{plural}"


def words(key: str) -> str:
    """A key of a JSON file as words."""
    return key.replace("_", " ")


def title(key: str) -> str:
    """A key of a JSON file as a title: `Gaussian blur`, `JPEG`."""
    if key == "jpeg":
        return "JPEG"
    return words(key).capitalize()


def text(value: Any) -> str:
    """A value of a JSON file as a person writes it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(text, value))
    return str(value)
