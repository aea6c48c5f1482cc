"""What the JSON files of a run hold: content of another kind is refused before anything is made of it.

A key that is missing is refused by whoever asks for it, with the file's name: files of earlier versions have fewer.
"""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from imgcls_jax.errors import RunError

_SCORES = {
    **{"accuracy": float, "loss": float, "examples": int, "confusion": [[int]]},
    "macro": {"precision": float, "recall": float, "f1": float},
    "per_class": [{"name": str, "precision": float, "recall": float, "f1": float, "support": int}],
    "confused_pairs": [{"true": str, "predicted": str, "count": int}],
}
_CURVE = [{"rejected": float, "accuracy": float}]
_CALIBRATED = {
    **{"accuracy": float, "ece": float, "brier": float, "nll": float},
    "reliability": [{"bin": int, "examples": int, "confidence": float, "accuracy": float}],
}
_SPLIT = {
    **{"examples": int, "shape": [int], "dtype": str, "missing": int, "class_counts": [int], "fingerprint": str},
    **{"pixel_min": int, "pixel_max": int, "pixel_mean": float, "label_min": int, "label_max": int},
}
_SUMMARY = {
    **{"best_epoch": int, "best_step": int, "epochs": int, "parameters": int, "trainable": int},
    **{"train_accuracy": float, "validation_accuracy": float, "validation_loss": float},
    **{"train_seconds": float, "seconds_per_epoch": float, "peak_memory": int},
}
# By the file's name. A type; a list of what one kind; a dict by keys, or by any key under "*".
KINDS: dict[str, Any] = {
    "config.json": {"seed": int, **{section: {} for section in ("data", "model", "train", "optimizer", "schedule")}},
    "environment.json": {"command": str, "device": str, "platform": str, "device_count": int, "versions": {"*": str}},
    "data.json": {"class_names": [str], "fingerprint": str, "splits": {"*": _SPLIT}},
    "test.json": _SCORES | _SUMMARY,
    "metrics.jsonl": {
        **{"epoch": int, "step": int, "phase": int, "learning_rate": float, "seconds": float},
        **{"train_loss": float, "train_accuracy": float, "validation_loss": float, "validation_accuracy": float},
        "images_per_second": float,
    },
    "steps.jsonl": {"step": int, "loss": float, "accuracy": float},
    "robustness.json": {"examples": int, "clean": float, "mean": float, "corruptions": {"*": [float]}},
    "explain.json": {
        "method": str,
        "examples": [{"index": int, "label": int, "prediction": int, "confidence": float, "group": str}],
        "compactness": {"images": int, "mean": float, "low": float, "high": float},
    },
    "calibration.json": {
        **{"temperature": float, "as_trained": _CALIBRATED, "scaled": _CALIBRATED, "rejection": _CURVE},
        "entropy": {},
    },
    "ensemble.json": {
        **{"rule": str, "test": _SCORES, "oracle": float, "disagreement": [[float]], "rejection": {"*": _CURVE}},
        "members": [{"run": str, "weight": float, "accuracy": float, "loss": float, "parameters": int}],
        "mutual_information": {},
        "stacking": {"kernel": [[[float]]], "bias": [float]},
        "soft_voting": {"accuracy": float, "loss": float},
    },
}


class _Record(dict):
    """A dict of a file, which knows whose it is."""

    def __init__(self, path: Path, content: Mapping[str, Any]):
        super().__init__(content)
        self.path = path

    def __missing__(self, key: str) -> Any:
        raise RunError(f"{self.path} has no {key!r}: it is damaged, or of another version of this program.")


def parse(path: Path, text: str) -> Any:
    """The JSON of a file of that name. Raises RunError where it is not valid, or not of that file's kind."""
    try:
        content = json.loads(text, object_hook=partial(_Record, path))
    except (ValueError, RecursionError) as error:
        raise damaged(path, error) from error
    if path.name in KINDS and (wrong := _wrong(content, KINDS[path.name])):
        raise RunError(f"{path} is damaged, or of another version of this program: {wrong}.")
    return content


def damaged(path: Path, reason: object) -> RunError:
    """What is said of a run's file that cannot be read."""
    reason = " ".join(str(reason).split())[:200]
    return RunError(f"{path} is damaged ({reason}). Delete it and report.html, and the run's command writes both anew.")


def _wrong(value: Any, kind: Any, at: str = "it") -> str:
    """The first place where a value is not of the kind; "" where there is none."""
    if isinstance(kind, dict):
        if not isinstance(value, dict):
            return f"{at} should hold names and values"
        kinds = {key: kind.get(key, kind.get("*")) for key in value}
        inside = ((each, kinds[key], str(key)) for key, each in value.items() if kinds[key] is not None)
    elif isinstance(kind, list):
        if not isinstance(value, list):
            return f"{at} should be a list"
        inside = ((each, kind[0], f"{at} {number}") for number, each in enumerate(value))
    else:
        right = isinstance(value, int | float if kind is float else kind) and not isinstance(value, bool)
        return "" if right else f"{at} should be {'a text' if kind is str else 'a number'}"
    return next((wrong for each in inside if (wrong := _wrong(*each))), "")
