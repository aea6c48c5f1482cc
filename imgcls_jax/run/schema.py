"""The content of a run's JSON files, which is checked before it is used.

What is read can be printed, compared and computed with: numbers have a common size and are finite,
except for the losses of a run that diverged; texts are valid Unicode; nesting is limited. A missing
key is reported when it is used, with the file's name, since files of older versions have fewer.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from imgcls_jax.errors import RunError, printable
from imgcls_jax.run.consistency import CONSISTENCY

MAX_BYTES = 2**28  # of a file: twenty times what a thousand classes take
MAX_INTEGER = 2**63
MAX_FIGURE = 3.5e38  # options may be as large as float32 can be
MAX_CHARACTERS = 100_000
MAX_DEPTH = 20
MAX_IMAGE_BYTES = 2**26
REQUIRED = "!"  # the key under which a kind lists the keys that nothing can be done without
ANY_KEY = "*"


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of value: its description, and whether a value is of it."""

    words: str
    fits: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < MAX_INTEGER


def _is_finite(value: int | float) -> bool:
    if isinstance(value, float):
        return abs(value) < MAX_FIGURE
    return abs(value) < MAX_INTEGER


def _is_figure(value: Any) -> bool:
    return _is_number(value) and _is_finite(value)


def _is_optional(value: Any) -> bool:
    return value is None or _is_figure(value)


def _is_loss(value: Any) -> bool:
    return isinstance(value, float) or _is_figure(value)


def _is_text(value: Any) -> bool:
    """Whether it can be encoded: JSON allows half of a surrogate pair."""
    if not isinstance(value, str) or len(value) > MAX_CHARACTERS:
        return False
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(map(_is_text, value))


def _is_image_shape(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 3:
        return False
    if not all(type(side) is int and side > 0 for side in value):
        return False
    return math.prod(value) <= MAX_IMAGE_BYTES


COUNT = Kind("a whole number from 0", _is_count)
FIGURE = Kind("a finite number", _is_figure)
LOSS = Kind("a number", _is_loss)  # not finite if the run diverged
OPTIONAL = Kind("a finite number or null", _is_optional)
TEXT = Kind("a text", _is_text)
IMAGE_SHAPE = Kind("height, width and channels of an image", _is_image_shape)
NAMES = Kind("a list of names", _is_names)
TYPES = {int: COUNT, float: FIGURE, str: TEXT}

_SCORES = {
    "accuracy": float,
    "balanced_accuracy": float,
    "loss": LOSS,
    "examples": int,
    "confusion": [[int]],
    "confusion_entries": {"true": [int], "predicted": [int], "count": [int]},
    "macro": {"precision": float, "recall": float, "f1": float},
    "per_class": [{"name": str, "precision": float, "recall": float, "f1": float, "support": int}],
    "confused_pairs": [{"true": str, "predicted": str, "count": int}],
}
_SUMMARY = {
    "best_epoch": int,
    "best_step": int,
    "epochs": int,
    "parameters": int,
    "trainable": int,
    "train_accuracy": float,
    "validation_accuracy": float,
    "validation_balanced_accuracy": float,
    "validation_loss": LOSS,
    "train_seconds": float,
    "seconds_per_epoch": float,
    "peak_memory": int,
}
_REJECTION = [{"rejected": float, "accuracy": float}]
_SHARE = {"share": float, "low": float, "high": float}
_CALIBRATED = {
    "accuracy": float,
    "ece": float,
    "brier": float,
    "nll": LOSS,
    "reliability": [{"bin": int, "examples": int, "confidence": float, "accuracy": float}],
}
_SPLIT = {
    "examples": int,
    "shape": IMAGE_SHAPE,
    "dtype": str,
    "missing": int,
    "class_counts": [int],
    "fingerprint": str,
    "pixel_min": int,
    "pixel_max": int,
    "pixel_mean": float,
    "light_borders": float,
    "label_min": int,
    "label_max": int,
}
_DIFFERENCE = {"difference": float, "low": float, "high": float, "p": float}
_MEMBER = {
    "run": str,
    "fingerprint": str,
    "weight": float,
    "accuracy": float,
    "loss": LOSS,
    "parameters": int,
    "against": _DIFFERENCE,
}
_EXPORTED = {"bytes": int, "accuracy": float, "images_per_second": float}
# The kind of each file's content: a type or a Kind, a list of one kind, or a dict of kinds by key.
KINDS: dict[str, Any] = {
    "config.json": {
        REQUIRED: ("seed", "data", "model"),
        "seed": int,
        "train": {},
        "optimizer": {},
        "schedule": {},
        "data": {
            REQUIRED: ("source",),
            "source": str,
            "name": str,
            "transform": str,
            "folds": int,
            "fold": int,
        },
        "model": {REQUIRED: ("name",), "name": str},
    },
    "environment.json": {
        "command": str,
        "device": str,
        "platform": str,
        "device_count": int,
        "versions": {ANY_KEY: str},
    },
    "data.json": {
        "class_names": NAMES,
        "fingerprint": str,
        "splits": {ANY_KEY: _SPLIT},
        "warnings": [str],
        "learned_before": {ANY_KEY: int},
        "origin": {ANY_KEY: str},
    },
    "test.json": _SCORES | _SUMMARY,
    "metrics.jsonl": {
        "epoch": int,
        "step": int,
        "phase": int,
        "learning_rate": float,
        "seconds": float,
        "train_loss": LOSS,
        "train_accuracy": float,
        "validation_loss": LOSS,
        "validation_accuracy": LOSS,
        "images_per_second": float,
    },
    "steps.jsonl": {"step": int, "loss": LOSS, "accuracy": float},
    "robustness.json": {
        "examples": int,
        "chosen": str,
        "clean": float,
        "mean": float,
        "corruptions": {ANY_KEY: [float]},
    },
    "unknown.json": {
        REQUIRED: ("score", "threshold", "mass", "step"),
        "score": str,
        "threshold": float,
        "false_alarms": float,
        "mass": float,
        "coverage": float,
        "step": int,
        "validation_examples": int,
        "candidates": {ANY_KEY: {ANY_KEY: float}},
        "test": {
            "examples": int,
            "coverage": _SHARE,
            "false_alarms": _SHARE,
            "accuracy_unknown": OPTIONAL,
            "accuracy_others": OPTIONAL,
            "sizes": [{"classes": int, "images": int, "accuracy": float, "coverage": float}],
            "strangest": [int],
        },
    },
    "explain.json": {
        "method": str,
        "examples": [
            {"index": int, "label": int, "prediction": int, "confidence": float, "group": str}
        ],
        "compactness": {"images": int, "mean": float, "low": float, "high": float},
    },
    "calibration.json": {
        "temperature": float,
        "low": float,
        "high": float,
        "validation_examples": int,
        "p": float,
        "as_trained": _CALIBRATED,
        "scaled": _CALIBRATED,
        "rejection": _REJECTION,
        "entropy": {},
    },
    "ensemble.json": {
        "rule": str,
        "test_fingerprint": str,
        "test": _SCORES,
        "oracle": float,
        "disagreement": [[float]],
        "rejection": {ANY_KEY: _REJECTION},
        "members": [_MEMBER],
        "mutual_information": {},
        "stacking": {"kernel": [[[float]]], "bias": [float]},
        "soft_voting": {"accuracy": float, "loss": float},
    },
    "comparison.json": {"systems": {ANY_KEY: [str]}},
    "onnx.json": {
        "images": int,
        "batch_size": int,
        "cores": int,
        "versions": {ANY_KEY: str},
        "run": _EXPORTED,
        "float32": {**_EXPORTED, "largest_difference": float},
        "int8": {**_EXPORTED, "calibration_images": int, "against_float32": _DIFFERENCE},
    },
}


class _Record(dict):
    """A dict from a file that names the file when a key is missing."""

    path: Path | None = None  # None for a copy, as by `dataclasses.asdict`

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
    """Returns the JSON content of a run's file; `path` gives its kind.

    Raises RunError if the text is not valid JSON or its content is not of the file's kind.
    """
    try:
        content = json.loads(text, object_hook=partial(_Record.of, path))
    except (ValueError, RecursionError) as error:
        raise damaged(path, error) from error
    problem = ""
    if path.name in KINDS:
        problem = _kind_error(content, KINDS[path.name])
    if not problem and path.name in CONSISTENCY:
        problem = CONSISTENCY[path.name](content)
    if problem:
        raise RunError(f"{path} is damaged, or of another version of this program: {problem}.")
    return content


def damaged(path: Path, reason: object) -> RunError:
    """The error about a run's file that cannot be read."""
    text = printable(" ".join(str(reason).split()))[:200]
    return RunError(
        f"{path} is damaged ({text}). Delete it and report.html, and the run's command writes "
        "both again."
    )


def _kind_error(value: Any, kind: Any, where: str = "it", level: int = 0) -> str:
    """Describes the first value that is not of its kind; "" if there is none.

    kind: as in KINDS; None if any JSON is accepted.
    """
    if isinstance(kind, type):
        kind = TYPES[kind]
    if isinstance(kind, Kind):
        return _scalar_error(value, kind, where)
    error = _container_error(value, kind, where)
    if error:
        return error
    if level > MAX_DEPTH:
        return "it is nested too deeply"
    for child, child_kind, child_where in _children(value, kind, where):
        error = _kind_error(child, child_kind, child_where, level + 1)
        if error:
            return error
    return ""


def _scalar_error(value: Any, kind: Kind, where: str) -> str:
    if kind.fits(value):
        return ""
    return f"{where} should be {kind.words}"


def _container_error(value: Any, kind: dict | list | None, where: str) -> str:
    """What is wrong with a value itself, its children aside."""
    if isinstance(kind, dict):
        if not isinstance(value, dict):
            return f"{where} should hold names and values"
        for key in kind.get(REQUIRED, ()):
            if key not in value:
                return f"{where} has no {key!r}"
    if isinstance(kind, list) and not isinstance(value, list):
        return f"{where} should be a list"
    if isinstance(value, dict) and not all(map(_is_text, value)):
        return f"a name in {where} is no text that can be written"
    if isinstance(value, str) and not _is_text(value):
        return f"{where} is no text that can be written"
    if isinstance(value, int | float) and not _is_finite(value):
        return f"{where} should be a finite number"
    return ""


def _children(value: Any, kind: Any, where: str) -> Iterator[tuple[Any, Any, str]]:
    """The values in a dict or a list, each with its kind and its place."""
    if isinstance(value, dict):
        kinds = kind or {}
        other = kinds.get(ANY_KEY)
        for key, child in value.items():
            yield child, kinds.get(key, other), printable(key)[:100]
    elif isinstance(value, list):
        item_kind = None
        if kind:
            (item_kind,) = kind
        for number, child in enumerate(value):
            yield child, item_kind, f"{where} {number}"
