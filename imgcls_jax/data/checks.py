"""Is this data fit to train on? The refusal of what is not, and the data report of what is."""

import hashlib
import itertools
import logging
from collections.abc import Mapping

import numpy as np

from imgcls_jax.data.dataset import Dataset
from imgcls_jax.data.lazy_images import Images, parts
from imgcls_jax.errors import DataError, is_utf8, printable

log = logging.getLogger(__name__)

SHOWN = 5  # offending examples named in an error
# What it means that a class has no image there.
CONSEQUENCES = {
    "train": ": what has none cannot be learned",
    "test": ": of what has none nothing is known, and means over the classes leave it out",
}
MAX_CLASS_ROWS = 20  # classes up to which the summary has a row each


def check(datasets: Mapping[str, Dataset]) -> dict:
    """Refuses data that is not fit to train on (DataError), and returns the data report of what is.

    The report is ready for JSON: `class_names`, `fingerprint` (over all splits) and `splits`: for each split its
    examples, shape [H, W, C], dtype, missing values, pixel_min, pixel_max, pixel_mean (0 to 255), label_min,
    label_max, class_counts and fingerprint; `warnings`: sentences on what can make figures say less than they seem to.
    """
    refuse(datasets)
    first = next(iter(datasets.values()))
    described = {name: _describe(dataset) for name, dataset in datasets.items()}
    counts = {name: np.array(split["class_counts"]) for name, (split, _) in described.items()}
    digests = {name: digests for name, (_, digests) in described.items()}
    return {
        "class_names": list(first.class_names),
        "fingerprint": fingerprint(datasets),
        "splits": {name: split for name, (split, _) in described.items()},
        "warnings": [*_class_warnings(first.class_names, counts), *_copy_warnings(digests)],
    }


def tell(report: Mapping) -> None:
    """Says the data report on the terminal: its table, and a line for each of its warnings."""
    log.info("%s", summary(report))
    for warning in report["warnings"]:
        log.warning("Warning: %s", warning)


def _class_warnings(names: tuple[str, ...], counts: Mapping[str, np.ndarray]) -> list[str]:
    """counts: of each split the examples of each class."""
    if len(names) == 1:
        return [
            f"There is but one class, {names[0]}: every answer is right, so that no figure says anything."
        ]
    warnings = []
    present = sum(counts.values()) > 0
    if not present.all():
        absent = np.array(names)[~present]
        from_1 = names[0] == "0" and not present[0]
        hint = " Labels that count from 1 have to be lowered by 1." if from_1 else ""
        warnings.append(f"{_classes(absent, names)} no image in any split.{hint}")
    for split, of_split in counts.items():
        absent = np.array(names)[present & (of_split == 0)]
        if len(absent):
            warnings.append(
                f"{_classes(absent, names)} no {split} image{CONSEQUENCES.get(split, '')}."
            )
    return warnings


def _classes(absent: np.ndarray, names: tuple[str, ...]) -> str:
    if len(absent) == 1:
        return f"The class {absent[0]} has"
    return f"{len(absent):,} of {len(names):,} classes ({_first(absent)}) have"


def _copy_warnings(digests: Mapping[str, np.ndarray]) -> list[str]:
    """digests: of each split those of its images."""
    warnings = []
    for (first, known), (second, images) in itertools.combinations(digests.items(), 2):
        if copies := int(np.isin(images, known).sum()):
            warnings.append(
                f"{copies:,} of {len(images):,} {second} images ({100 * copies / len(images):.2f} %) are exact copies "
                f"of {first} images: what is right on them was seen before."
            )
    return warnings


def fingerprint(datasets: Mapping[str, Dataset]) -> str:
    """One SHA-256 over the names and fingerprints of several splits."""
    lines = "".join(f"{name} {dataset.fingerprint}\n" for name, dataset in datasets.items())
    return hashlib.sha256(lines.encode()).hexdigest()


def refuse(datasets: Mapping[str, Dataset]) -> None:
    """Raises a DataError for the first thing that is wrong with any of the splits, or between them."""
    for name, dataset in datasets.items():
        _refuse_images(name, dataset.images)
        _refuse_labels(name, dataset)
    (first_name, first), *others = datasets.items()
    for class_name in first.class_names:
        refuse_name(class_name, "class")
    for name, dataset in others:
        if dataset.images.shape[1:] != first.images.shape[1:]:
            raise DataError(
                f"The images of the {name} split are {shape_text(dataset.images.shape[1:])}, those of the {first_name} "
                f"split {shape_text(first.images.shape[1:])}. All splits need one shape: resize or convert one of them."
            )
        if dataset.class_names != first.class_names:
            raise DataError(
                f"The {name} split has {len(dataset.class_names)} classes {_first(dataset.class_names)}, the "
                f"{first_name} split {len(first.class_names)} classes {_first(first.class_names)}. "
                "All splits need the same class names in the same order."
            )


def rare_classes(dataset: Dataset, least: int = 2) -> str:
    """A sentence on the classes with so few images that none can be held out; "" where there are none."""
    counts = np.bincount(dataset.labels, minlength=len(dataset.class_names))
    rare = [
        f"{dataset.class_names[label]} ({counts[label]})"
        for label in np.flatnonzero(counts < least)
    ]
    if not rare:
        return ""
    return (
        f"Classes with fewer than {least} images to train on and hold out of: {_first(rare)}. Validation knows nothing "
        "of them: add images, or leave the classes out."
    )


def refuse_name(name: str, kind: str) -> None:
    """Raises DataError for a name that is not Unicode, and could not be written into any file."""
    if not is_utf8(name):
        raise DataError(
            f"The {kind} {printable(name)} has a name that is not UTF-8, and could not be shown. Rename it."
        )


def summary(report: dict) -> str:
    """The data report as a table for the terminal: one column a split, then examples per class."""
    splits = report["splits"].values()
    names = report["class_names"]
    rows = [("", *report["splits"])]
    rows.append(("examples", *(f"{split['examples']:,}" for split in splits)))
    rows.append(("image", *(f"{shape_text(split['shape'])} {split['dtype']}" for split in splits)))
    rows.append(("missing values", *(f"{split['missing']:,}" for split in splits)))
    rows.append(
        (
            "pixels",
            *(f"{s['pixel_min']} to {s['pixel_max']}, mean {s['pixel_mean']:.2f}" for s in splits),
        )
    )
    rows.append(("labels", *(f"{split['label_min']} to {split['label_max']}" for split in splits)))
    if "origin" in report:
        rows.append(("origin", *(report["origin"].get(split, "") for split in report["splits"])))
    if len(names) <= MAX_CLASS_ROWS:
        for label, name in enumerate(names):
            rows.append(
                (f"class {name}", *(f"{split['class_counts'][label]:,}" for split in splits))
            )
    else:
        ranges = (
            f"{min(split['class_counts']):,} to {max(split['class_counts']):,}" for split in splits
        )
        rows.append((f"each of {len(names)} classes", *ranges))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for name, *cells in rows:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *padded]))
    return "\n".join([*lines, f"fingerprint {report['fingerprint'][:16]}"])


def sample_indices(labels: np.ndarray, per_class: int, seed: int = 0) -> list[np.ndarray]:
    """A seeded choice of examples for a grid of samples.

    labels: int [N]. Returns for each class up to the highest label the indices, int64, of `per_class` of its
    examples, or of all of them where it has fewer.
    """
    rng = np.random.default_rng(seed)
    return [
        rng.permutation(np.flatnonzero(labels == label))[:per_class]
        for label in range(int(labels.max()) + 1)
    ]


def shape_text(shape: tuple[int, ...]) -> str:
    """(28, 28, 1) as "28x28x1"."""
    return "x".join(str(size) for size in shape)


def _describe(dataset: Dataset) -> tuple[dict, np.ndarray]:
    """What the report says of a split, and a digest of each image, uint64 [N]."""
    images, labels = dataset.images, dataset.labels
    figures = [
        (part.min(), part.max(), part.sum(dtype=np.int64), _digests(part)) for part in parts(images)
    ]
    lows, highs, sums, digests = zip(*figures, strict=True)
    described = {
        "examples": len(dataset),
        "shape": list(images.shape[1:]),
        "dtype": str(images.dtype),
        "missing": _count_missing(images),
        "pixel_min": int(min(lows)),
        "pixel_max": int(max(highs)),
        "pixel_mean": int(sum(sums)) / images.nbytes,
        "label_min": int(labels.min()),
        "label_max": int(labels.max()),
        "class_counts": np.bincount(labels, minlength=len(dataset.class_names)).tolist(),
        "fingerprint": dataset.fingerprint,
    }
    return described, np.concatenate(digests)


def _digests(images: np.ndarray) -> np.ndarray:
    rows = np.ascontiguousarray(images).reshape(len(images), -1)
    return np.frombuffer(
        b"".join(hashlib.blake2b(row, digest_size=8).digest() for row in rows), np.uint64
    )


def _count_missing(values: Images) -> int:
    return int(np.isnan(values).sum()) if values.dtype.kind in "fc" else 0


def _refuse_images(name: str, images: Images) -> None:
    where = f"the {name} split"
    if images.ndim == 0 or len(images) == 0:
        raise DataError(f"There is no image in {where}. Every split needs at least one example.")
    missing = _count_missing(images)
    if missing:
        examples = np.flatnonzero(np.isnan(images.reshape(len(images), -1)).any(axis=1))
        raise DataError(
            f"{missing} pixel values of {where} are missing (NaN), in examples {_first(examples)} (counted from 0). "
            "Fill them or remove these examples."
        )
    if images.dtype != np.uint8:
        kind = images.dtype.kind
        between = f", between {images.min()} and {images.max()}" if kind in "fiu" else ""
        scaled = kind == "f" and images.min() >= 0 and images.max() <= 1
        remedy = "(images * 255).round().astype('uint8')" if scaled else "images.astype('uint8')"
        raise DataError(
            f"The images of {where} are {images.dtype}{between}; uint8 from 0 to 255 is accepted. "
            f"Save them so, for example as {remedy}."
        )
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise DataError(
            f"The images of {where} have shape {shape_text(images.shape)}; accepted is examples x height x width x "
            "channels with 1 channel (grayscale) or 3 (RGB), channels last. Transpose or convert them."
        )


def _refuse_labels(name: str, dataset: Dataset) -> None:
    where = f"the {name} split"
    images, labels, classes = dataset.images, dataset.labels, len(dataset.class_names)
    if labels.ndim != 1:
        raise DataError(
            f"The labels of {where} have shape {shape_text(labels.shape)}; one class number an example is accepted: "
            "labels.argmax(axis=1) turns one-hot rows into that, labels.ravel() a single column."
        )
    if len(labels) != len(images):
        raise DataError(
            f"In {where} there are {len(images)} images but {len(labels)} labels. Every image needs one label: "
            "check that both come from the same export."
        )
    if labels.dtype.kind not in "iu":
        raise DataError(
            f"The labels of {where} are {labels.dtype}, starting {_first(labels)}; integers from 0 are accepted. "
            "Number the classes from 0, and save the numbers as int32."
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise DataError(
            f"{len(wrong)} labels of {where} are out of range: {_first(labels[wrong])} at examples {_first(wrong)} "
            f"(counted from 0), where the {classes} classes have the numbers 0 to {classes - 1}. "
            "Correct these labels, or name all the classes."
        )


def _first(values) -> str:
    shown = ", ".join(str(value) for value in values[:SHOWN])
    return shown + (", ..." if len(values) > SHOWN else "")
