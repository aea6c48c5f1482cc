"""Whether the parts of a run's JSON file agree with each other.

What each part may be is checked in run/schema.py first. A check returns a description of what does
not agree, "" if all does.
"""

from collections.abc import Callable, Mapping
from typing import Any

from imgcls_jax.errors import printable


def _test_error(content: Mapping[str, Any]) -> str:
    """Describes how parts of test.json contradict each other; "" if they do not."""
    confusion = content.get("confusion")
    if confusion is not None and any(len(row) != len(confusion) for row in confusion):
        return "confusion should have as many columns as rows"
    classes = content.get("per_class")
    error = _entries_error(content.get("confusion_entries", {}), len(classes or ()))
    if error:
        return error
    if classes == [] or (confusion and classes and len(confusion) != len(classes)):
        return "per_class should have the classes of confusion"
    return ""


def _entries_error(entries: Mapping[str, Any], num_classes: int) -> str:
    true = entries.get("true", [])
    predicted = entries.get("predicted", [])
    count = entries.get("count", [])
    if not len(true) == len(predicted) == len(count):
        return "confusion_entries should have columns of one length"
    if max([*true, *predicted], default=-1) >= num_classes:
        return "confusion_entries should name classes of per_class"
    return ""


def _data_error(content: Mapping[str, Any]) -> str:
    names = content.get("class_names")
    if not names:
        return ""
    for split, report in content.get("splits", {}).items():
        if len(report.get("class_counts", names)) != len(names):
            return (
                f"class_counts of {printable(split)[:100]} should have a count for each of "
                f"{len(names):,} classes"
            )
    return ""


def _calibration_error(content: Mapping[str, Any]) -> str:
    for key in ("as_trained", "scaled"):
        bins = content.get(key, {}).get("reliability")
        if bins is not None and not any(row.get("examples") for row in bins):
            return f"reliability of {key} has no examples"
    rejection = content.get("rejection")
    if rejection is not None and not any(point.get("rejected") == 0.1 for point in rejection):
        return "rejection has no point at 0.1"
    return ""


def _robustness_error(content: Mapping[str, Any]) -> str:
    corruptions = content.get("corruptions")
    if corruptions is None:
        return ""
    if not corruptions or not all(corruptions.values()):
        return "corruptions should hold accuracies"
    return ""


def _ensemble_error(content: Mapping[str, Any]) -> str:
    num_members = len(content.get("members", ()))
    disagreement = content.get("disagreement")
    if disagreement is not None:
        if [len(row) for row in disagreement] != [num_members] * num_members:
            return "disagreement should have a row and a column for each member"
    return _test_error(content.get("test", {}))


def _unknown_error(content: Mapping[str, Any]) -> str:
    if content["score"] not in ("max_probability", "energy", "nearest"):
        return f"score is {printable(content['score'])[:100]}, which is none of them"
    test = content.get("test", {})
    if max(test.get("strangest", ()), default=-1) >= test.get("examples", 0):
        return "strangest should number test images"
    if not all(row.get("images") for row in test.get("sizes", ())):
        return "sizes should have images"
    return ""


# By the file's name: what checks that the parts of its content agree.
CONSISTENCY: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "test.json": _test_error,
    "data.json": _data_error,
    "calibration.json": _calibration_error,
    "robustness.json": _robustness_error,
    "unknown.json": _unknown_error,
    "ensemble.json": _ensemble_error,
}
