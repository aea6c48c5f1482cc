"""What the JSON files of a run hold: content of another kind is refused before anything is made of it.

Whatever is read can be printed, compared and computed with: numbers are finite, but for the losses of a run that
diverged, and of a common size; texts are whole Unicode; nothing is nested beyond reason. A key that is missing is
refused by whoever asks for it, with the file's name: files of earlier versions have fewer.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from imgcls_jax.errors import RunError, printable

MAX_BYTES = 2**28  # of a file: a thousand classes' is a twentieth of that
LARGEST = 2**63  # what whole numbers stay below
LARGEST_FIGURE = 3.5e38  # what others stay below: options may be as large as float32 can
LONGEST = 100_000  # characters of a text
DEEPEST = 20  # levels of a file
LARGEST_IMAGE = 2**26  # bytes
NEEDED = "!"  # the key of a kind that lists the keys without which there is nothing to be made of the rest


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of value: words that name it, and whether a value is of it."""

    words: str
    fits: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_finite(value: int | float) -> bool:
    return abs(value) < (LARGEST_FIGURE if isinstance(value, float) else LARGEST)


def _is_text(value: Any) -> bool:
    """Whether it is Unicode that can be written: JSON lets half of a pair of surrogates stand alone."""
    return (
        isinstance(value, str)
        and len(value) <= LONGEST
        and not any("\ud800" <= c <= "\udfff" for c in value)
    )


def _is_image(value: Any) -> bool:
    sides = (
        isinstance(value, list)
        and len(value) == 3
        and all(type(side) is int and side > 0 for side in value)
    )
    return sides and math.prod(value) <= LARGEST_IMAGE


COUNT = Kind("a whole number from 0", lambda value: type(value) is int and 0 <= value < LARGEST)
FIGURE = Kind("a finite number", lambda value: _is_number(value) and _is_finite(value))
# Of a run that diverged it is not finite.
LOSS = Kind(
    "a number",
    lambda value: _is_number(value) and (isinstance(value, float) or abs(value) < LARGEST),
)
TEXT = Kind("a text", _is_text)
IMAGE = Kind("height, width and channels of an image", _is_image)
NAMES = Kind(
    "a list of names",
    lambda value: isinstance(value, list) and 0 < len(value) and all(map(_is_text, value)),
)
TYPES = {int: COUNT, float: FIGURE, str: TEXT}

_SCORES = {
    **{"accuracy": float, "loss": LOSS, "examples": int, "confusion": [[int]]},
    "confusion_entries": {"true": [int], "predicted": [int], "count": [int]},
    "macro": {"precision": float, "recall": float, "f1": float},
    "per_class": [{"name": str, "precision": float, "recall": float, "f1": float, "support": int}],
    "confused_pairs": [{"true": str, "predicted": str, "count": int}],
}
_CURVE = [{"rejected": float, "accuracy": float}]
_CALIBRATED = {
    **{"accuracy": float, "ece": float, "brier": float, "nll": LOSS},
    "reliability": [{"bin": int, "examples": int, "confidence": float, "accuracy": float}],
}
_SPLIT = {
    **{
        "examples": int,
        "shape": IMAGE,
        "dtype": str,
        "missing": int,
        "class_counts": [int],
        "fingerprint": str,
    },
    **{"pixel_min": int, "pixel_max": int, "pixel_mean": float, "label_min": int, "label_max": int},
}
_SUMMARY = {
    **{"best_epoch": int, "best_step": int, "epochs": int, "parameters": int, "trainable": int},
    **{"train_accuracy": float, "validation_accuracy": float, "validation_loss": LOSS},
    **{"train_seconds": float, "seconds_per_epoch": float, "peak_memory": int},
}
# By the file's name. A type or a Kind; a list of one kind; a dict by keys, or by any key under "*".
KINDS: dict[str, Any] = {
    "config.json": {
        **{
            NEEDED: ("seed", "data", "model"),
            "seed": int,
            "train": {},
            "optimizer": {},
            "schedule": {},
        },
        "data": {NEEDED: ("source",), "source": str, "name": str},
        "model": {NEEDED: ("name",), "name": str},
    },
    "environment.json": {
        "command": str,
        "device": str,
        "platform": str,
        "device_count": int,
        "versions": {"*": str},
    },
    "data.json": {
        **{"class_names": NAMES, "fingerprint": str, "splits": {"*": _SPLIT}},
        **{"warnings": [str], "origin": {"*": str}},
    },
    "test.json": _SCORES | _SUMMARY,
    "metrics.jsonl": {
        **{"epoch": int, "step": int, "phase": int, "learning_rate": float, "seconds": float},
        **{
            "train_loss": LOSS,
            "train_accuracy": float,
            "validation_loss": LOSS,
            "validation_accuracy": LOSS,
        },
        "images_per_second": float,
    },
    "steps.jsonl": {"step": int, "loss": LOSS, "accuracy": float},
    "robustness.json": {
        "examples": int,
        "clean": float,
        "mean": float,
        "corruptions": {"*": [float]},
    },
    "explain.json": {
        "method": str,
        "examples": [
            {"index": int, "label": int, "prediction": int, "confidence": float, "group": str}
        ],
        "compactness": {"images": int, "mean": float, "low": float, "high": float},
    },
    "calibration.json": {
        **{
            "temperature": float,
            "p": float,
            "as_trained": _CALIBRATED,
            "scaled": _CALIBRATED,
            "rejection": _CURVE,
        },
        "entropy": {},
    },
    "ensemble.json": {
        **{
            "rule": str,
            "test": _SCORES,
            "oracle": float,
            "disagreement": [[float]],
            "rejection": {"*": _CURVE},
        },
        "members": [
            {
                **{
                    "run": str,
                    "fingerprint": str,
                    "weight": float,
                    "accuracy": float,
                    "loss": LOSS,
                    "parameters": int,
                },
                "against": {"difference": float, "low": float, "high": float, "p": float},
            }
        ],
        "mutual_information": {},
        "stacking": {"kernel": [[[float]]], "bias": [float]},
        "soft_voting": {"accuracy": float, "loss": float},
    },
}


class _Record(dict):
    """A dict of a file, which knows whose it is; a copy by `dataclasses.asdict` does not."""

    path: Path | None = None

    @classmethod
    def of(cls, path: Path, content: Mapping[str, Any]) -> "_Record":
        record = cls(content)
        record.path = path
        return record

    def __missing__(self, key: str) -> Any:
        raise RunError(
            f"{self.path} has no {key!r}: it is damaged, or of another version of this program."
        )


def parse(path: Path, text: str) -> Any:
    """The JSON of a file of that name. Raises RunError where it is not valid, or not of that file's kind."""
    try:
        content = json.loads(text, object_hook=partial(_Record.of, path))
    except (ValueError, RecursionError) as error:
        raise damaged(path, error) from error
    kind, agrees = KINDS.get(path.name), AGREEMENTS.get(path.name)
    if kind and (wrong := _wrong(content, kind) or (agrees(content) if agrees else "")):
        raise RunError(f"{path} is damaged, or of another version of this program: {wrong}.")
    return content


def damaged(path: Path, reason: object) -> RunError:
    """What is said of a run's file that cannot be read."""
    reason = printable(" ".join(str(reason).split()))[:200]
    return RunError(
        f"{path} is damaged ({reason}). Delete it and report.html, and the run's command writes both anew."
    )


def _wrong(value: Any, kind: Any, at: str = "it", level: int = 0) -> str:
    """The first place where a value is not of the kind; "" where there is none. kind: None where any serves."""
    if isinstance(kind, dict):
        if not isinstance(value, dict):
            return f"{at} should hold names and values"
        if missing := next((key for key in kind.get(NEEDED, ()) if key not in value), ""):
            return f"{at} has no {missing!r}"
    elif isinstance(kind, list):
        if not isinstance(value, list):
            return f"{at} should be a list"
    elif kind is not None:
        kind = TYPES.get(kind, kind)
        return "" if kind.fits(value) else f"{at} should be {kind.words}"
    if level > DEEPEST:
        return "it is nested too deeply"
    if isinstance(value, dict):
        if not all(map(_is_text, value)):
            return f"a name in {at} is no text that can be written"
        known = kind or {}
        inside = (
            (each, known.get(key, known.get("*")), printable(key)[:100])
            for key, each in value.items()
        )
    elif isinstance(value, list):
        inside = ((each, kind and kind[0], f"{at} {number}") for number, each in enumerate(value))
    else:
        return _odd(value, at)
    return next((wrong for each in inside if (wrong := _wrong(*each, level + 1))), "")


def _wrong_test(content: Mapping[str, Any]) -> str:
    """What of the file does not agree with the rest of it; "" where all does. So do the functions below."""
    matrix, classes = content.get("confusion"), content.get("per_class")
    if matrix is not None and any(len(row) != len(matrix) for row in matrix):
        return "confusion should have as many columns as rows"
    entries = content.get("confusion_entries", {})
    if len({len(entries.get(key, ())) for key in ("true", "predicted", "count")}) > 1:
        return "confusion_entries should have columns of one length"
    if max([*entries.get("true", ()), *entries.get("predicted", ())], default=-1) >= len(
        classes or ()
    ):
        return "confusion_entries should name classes of per_class"
    if classes == [] or (matrix and classes and len(matrix) != len(classes)):
        return "per_class should have the classes of confusion"
    return ""


def _wrong_data(content: Mapping[str, Any]) -> str:
    names = content.get("class_names")
    for split, found in content.get("splits", {}).items():
        if names and len(found.get("class_counts", names)) != len(names):
            return f"class_counts of {printable(split)[:100]} should have a count for each of {len(names):,} classes"
    return ""


def _wrong_calibration(content: Mapping[str, Any]) -> str:
    for key in ("as_trained", "scaled"):
        bins = content.get(key, {}).get("reliability")
        if bins is not None and not any(row.get("examples") for row in bins):
            return f"reliability of {key} has no examples"
    if "rejection" in content and all(
        point.get("rejected") != 0.1 for point in content["rejection"]
    ):
        return "rejection has no point at 0.1"
    return ""


def _wrong_robustness(content: Mapping[str, Any]) -> str:
    found = content.get("corruptions")
    return (
        "corruptions should hold accuracies"
        if found is not None and not (found and all(found.values()))
        else ""
    )


def _wrong_ensemble(content: Mapping[str, Any]) -> str:
    count, shares = len(content.get("members", ())), content.get("disagreement")
    if shares is not None and [len(row) for row in shares] != [count] * count:
        return "disagreement should have a row and a column for each member"
    return _wrong_test(content.get("test", {}))


# By the file's name: what is wrong with how its parts agree.
AGREEMENTS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "test.json": _wrong_test,
    "data.json": _wrong_data,
    "calibration.json": _wrong_calibration,
    "robustness.json": _wrong_robustness,
    "ensemble.json": _wrong_ensemble,
}


def _odd(value: Any, at: str) -> str:
    """What is wrong with a value of which no more is known than where it is; "" where nothing is."""
    if isinstance(value, str):
        return "" if _is_text(value) else f"{at} is no text that can be written"
    if isinstance(value, int | float) and not _is_finite(value):
        return f"{at} should be a finite number"
    return ""
