"""Checks whether data is fit to train on, and describes it in the data report."""

import hashlib
import itertools
import logging
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from imgcls_jax.data.borders import has_light_border
from imgcls_jax.data.dataset import Dataset
from imgcls_jax.data.lazy_images import Images, chunks
from imgcls_jax.errors import DataError, is_utf8, listed, printable, shape_text

log = logging.getLogger(__name__)

# What it means that a class has no image in a split.
CONSEQUENCES = {
    "train": ": such classes cannot be learned",
    "test": ": such classes are not tested, and means over the classes leave them out",
}
MAX_CLASS_ROWS = 20  # classes up to which the summary has a row for each
# A class with so many times fewer images than the median class may be a wrong label.
OUTLIER_FACTOR = 20
# Training images of the largest class by those of the smallest, from which options are suggested.
UNBALANCED = 3


def check(datasets: Mapping[str, Dataset]) -> dict:
    """Returns the data report. Raises DataError for data that is not fit to train on.

    The report is ready for JSON. `splits` has for each split: examples, shape [H, W, C], dtype,
    missing (number of missing values), pixel_min, pixel_max, pixel_mean (0 to 255), label_min,
    label_max, class_counts, fingerprint and, of one-channel images, light_borders (the share of
    images that are light at the border). It also has `class_names`, `fingerprint` (of all
    splits), and `warnings`, sentences on what can make results misleading.
    """
    report, _ = check_with_digests(datasets)
    return report


def check_with_digests(datasets: Mapping[str, Dataset]) -> tuple[dict, dict[str, np.ndarray]]:
    """Returns what `check` does, and the `image_digests` of each split."""
    validate(datasets)
    class_names = next(iter(datasets.values())).class_names
    splits = {}
    digests = {}
    source_warnings: list[str] = []
    for name, dataset in datasets.items():
        splits[name], digests[name] = _describe(dataset)
        source_warnings += dataset.warnings
    counts = {name: np.array(split["class_counts"]) for name, split in splits.items()}
    report = {
        "class_names": list(class_names),
        "fingerprint": fingerprint(datasets),
        "splits": splits,
        "warnings": [
            *dict.fromkeys(source_warnings),  # splits of one file have the same
            *_class_warnings(class_names, counts),
            *_balance_warnings(class_names, counts),
            *_copy_warnings(digests),
        ],
    }
    return report, digests


def log_report(report: Mapping) -> None:
    """Logs the data report: its table, and a line for each of its warnings."""
    log.info("%s", summary(report))
    for warning in report["warnings"]:
        log.warning("Warning: %s", warning)


def fingerprint(datasets: Mapping[str, Dataset]) -> str:
    """Returns one SHA-256 of the names and fingerprints of several splits."""
    lines = "".join(f"{name} {dataset.fingerprint}\n" for name, dataset in datasets.items())
    return hashlib.sha256(lines.encode()).hexdigest()


def _describe(dataset: Dataset) -> tuple[dict, np.ndarray]:
    """Returns a split's part of the report, and a digest of each image, uint64 [N]."""
    images = dataset.images
    lows = []
    highs = []
    sums = []
    digests = []
    light = 0
    is_gray = images.shape[-1] == 1
    for chunk in chunks(images):
        lows.append(int(chunk.min()))
        highs.append(int(chunk.max()))
        sums.append(int(chunk.sum(dtype=np.int64)))
        digests.append(image_digests(chunk))
        if is_gray:
            light += int(has_light_border(chunk[..., 0]).sum())
    report = {
        "examples": len(dataset),
        "shape": list(images.shape[1:]),
        "dtype": str(images.dtype),
        "missing": _count_missing(images),
        "pixel_min": min(lows),
        "pixel_max": max(highs),
        "pixel_mean": sum(sums) / images.nbytes,
        "label_min": int(dataset.labels.min()),
        "label_max": int(dataset.labels.max()),
        "class_counts": np.bincount(dataset.labels, minlength=len(dataset.class_names)).tolist(),
        "fingerprint": dataset.fingerprint,
    }
    if is_gray:
        report["light_borders"] = light / len(dataset)
    return report, np.concatenate(digests)


def image_digests(images: np.ndarray) -> np.ndarray:
    """Returns a digest of each image of uint8 [N, H, W, C], uint64 [N]; copies have the same."""
    rows = np.ascontiguousarray(images).reshape(len(images), -1)
    digests = [hashlib.blake2b(row, digest_size=8).digest() for row in rows]
    return np.frombuffer(b"".join(digests), np.uint64)


def _count_missing(values: Images) -> int:
    if values.dtype.kind not in "fc":
        return 0
    return int(np.isnan(values).sum())


def _class_warnings(names: tuple[str, ...], counts: Mapping[str, np.ndarray]) -> list[str]:
    """Warns of absent classes. counts: for each split the number of examples of each class."""
    if len(names) == 1:
        return [
            f"There is only one class, {names[0]}: every answer is right, so results mean nothing."
        ]
    warnings = []
    present = sum(counts.values()) > 0
    if not present.all():
        absent = np.array(names)[~present]
        hint = ""
        if names[0] == "0" and not present[0]:
            hint = " Labels that count from 1 have to be lowered by 1."
        warnings.append(f"{_classes_have(absent, names)} no image in any split.{hint}")
    for split, split_counts in counts.items():
        absent = np.array(names)[present & (split_counts == 0)]
        if len(absent):
            consequence = CONSEQUENCES.get(split, "")
            warnings.append(f"{_classes_have(absent, names)} no {split} image{consequence}.")
    return warnings


def _balance_warnings(names: tuple[str, ...], counts: Mapping[str, np.ndarray]) -> list[str]:
    """Warns of unbalanced training images. Classes that may be wrong labels do not count."""
    if "train" not in counts:
        return []
    train = counts["train"]
    classes = np.flatnonzero((train > 0) & ~_is_outlier(train))
    largest = classes[train[classes].argmax()]
    smallest = classes[train[classes].argmin()]
    ratio = train[largest] / train[smallest]
    if ratio < UNBALANCED:
        return []
    return [
        f"The training images are unbalanced, {ratio:,.3g} to 1: {names[largest]} has "
        f"{train[largest]:,} images, {names[smallest]} has {train[smallest]:,}. Let "
        "--config.train.monitor=balanced_accuracy pick the checkpoint, and try "
        "--config.train.logit_adjustment=1 (docs/unbalanced.md)."
    ]


def _is_outlier(counts: np.ndarray) -> np.ndarray:
    """Returns which classes, bool [K], have so few examples that their labels may be wrong."""
    median = np.median(counts[counts > 0])
    return (counts > 0) & (counts * OUTLIER_FACTOR < median)


def _classes_have(absent: np.ndarray, names: tuple[str, ...]) -> str:
    if len(absent) == 1:
        return f"The class {absent[0]} has"
    return f"{len(absent):,} of {len(names):,} classes ({listed(absent)}) have"


def _copy_warnings(digests: Mapping[str, np.ndarray]) -> list[str]:
    """Warns of images that are in two splits. digests: of the images of each split."""
    warnings = []
    for (first, first_digests), (second, second_digests) in itertools.combinations(
        digests.items(), 2
    ):
        copies = int(np.isin(second_digests, first_digests).sum())
        if copies:
            total = len(second_digests)
            warnings.append(
                f"{copies:,} of {total:,} {second} images ({100 * copies / total:.2f} %) are exact "
                f"copies of {first} images: the model may have seen them before."
            )
    return warnings


def rare_class_warnings(train: Dataset, indices: np.ndarray, *, held_out: bool) -> list[str]:
    """Returns warnings of labels that may be wrong, and of classes too small to hold out of.

    train: the training set before anything is held out of it. indices: int64 [N], where its images
    are in the source. held_out: whether the validation set is taken out of it.
    """
    counts = np.bincount(train.labels, minlength=len(train.class_names))
    median = np.median(counts[counts > 0])
    warnings = []
    for label in np.flatnonzero(_is_outlier(counts)):
        examples = indices[train.labels == label]
        images = "images" if len(examples) > 1 else "image"
        warnings.append(
            f"The class {train.class_names[label]} has only {len(examples):,} {images}, the median "
            f"class {median:,.0f}: a wrong label? It is that of the training examples "
            f"{listed(examples)} (counted from 0)."
        )
    names = np.array(train.class_names)
    rare = [f"{names[label]} ({counts[label]})" for label in np.flatnonzero(counts < 2)]
    if rare and held_out:
        warnings.append(
            f"Classes with fewer than 2 images to train on and hold out of: {listed(rare)}. "
            "None of them is in the validation set: add images, or leave the classes out."
        )
    return warnings


def validate(datasets: Mapping[str, Dataset]) -> None:
    """Raises DataError for the first thing that is wrong with a split, or between splits."""
    for name, dataset in datasets.items():
        _validate_images(name, dataset.images)
        _validate_labels(name, dataset)
    (first_name, first), *others = datasets.items()
    for class_name in first.class_names:
        validate_name(class_name, "class")
    repeated = [name for name, count in Counter(first.class_names).items() if count > 1]
    if repeated:
        raise DataError(
            f"Several classes of the {first_name} split have the name {listed(repeated)}: give each "
            "class a name of its own."
        )
    shape = first.images.shape[1:]
    for name, dataset in others:
        if dataset.images.shape[1:] != shape:
            raise DataError(
                f"The images of the {name} split are {shape_text(dataset.images.shape[1:])}, those "
                f"of the {first_name} split {shape_text(shape)}. All splits need one shape: resize "
                "or convert one of them."
            )
        if dataset.class_names != first.class_names:
            raise DataError(
                f"The {name} split has {len(dataset.class_names)} classes "
                f"{listed(dataset.class_names)}, the {first_name} split {len(first.class_names)} "
                f"classes {listed(first.class_names)}. All splits need the same class names in the "
                "same order."
            )


def validate_name(name: str, kind: str) -> None:
    """Raises DataError for a name that is not UTF-8 and could not be written into any file."""
    if not is_utf8(name):
        raise DataError(
            f"The {kind} {printable(name)} has a name that is not UTF-8, and could not be shown. "
            "Rename it."
        )


def _validate_images(name: str, images: Images) -> None:
    if images.ndim == 0 or len(images) == 0:
        raise DataError(
            f"There is no image in the {name} split. Every split needs at least one example."
        )
    missing = _count_missing(images)
    if missing:
        is_missing = np.isnan(images.reshape(len(images), -1)).any(axis=1)
        raise DataError(
            f"{missing} pixel values of the {name} split are missing (NaN), in examples "
            f"{listed(np.flatnonzero(is_missing))} (counted from 0). Fill them or remove these "
            "examples."
        )
    if images.dtype != np.uint8:
        raise DataError(_dtype_message(name, images))
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise DataError(
            f"The images of the {name} split have shape {shape_text(images.shape)}; accepted is "
            "examples x height x width x channels with 1 channel (grayscale) or 3 (RGB), channels "
            "last. Transpose or convert them."
        )


def _dtype_message(name: str, images: np.ndarray) -> str:
    """Says that images are not uint8, and how to convert them."""
    values = ""
    remedy = "images.astype('uint8')"
    if images.dtype.kind in "fiu":
        low = images.min()
        high = images.max()
        values = f", between {low} and {high}"
        if images.dtype.kind == "f" and low >= 0 and high <= 1:
            remedy = "(images * 255).round().astype('uint8')"
    return (
        f"The images of the {name} split are {images.dtype}{values}; uint8 from 0 to 255 is "
        f"accepted. Save them so, for example as {remedy}."
    )


def _validate_labels(name: str, dataset: Dataset) -> None:
    labels = dataset.labels
    num_images = len(dataset.images)
    num_classes = len(dataset.class_names)
    if labels.ndim != 1:
        raise DataError(
            f"The labels of the {name} split have shape {shape_text(labels.shape)}; one class "
            "number for each example is accepted: labels.argmax(axis=1) converts one-hot rows, "
            "labels.ravel() a single column."
        )
    if len(labels) != num_images:
        raise DataError(
            f"In the {name} split there are {num_images} images but {len(labels)} labels. Every "
            "image needs one label: check that both come from the same export."
        )
    if labels.dtype.kind not in "iu":
        raise DataError(
            f"The labels of the {name} split are {labels.dtype}, starting {listed(labels)}; "
            "integers from 0 are accepted. Number the classes from 0, and save the numbers as "
            "int32."
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(wrong):
        raise DataError(
            f"{len(wrong)} labels of the {name} split are out of range: {listed(labels[wrong])} at "
            f"examples {listed(wrong)} (counted from 0), where the {num_classes} classes have the "
            f"numbers 0 to {num_classes - 1}. Correct these labels, or name all the classes."
        )


def summary(report: Mapping) -> str:
    """Returns the data report as a table for the terminal, with a column for each split."""
    splits = report["splits"].values()
    rows = [["", *report["splits"]]]

    def add_row(name: str, cells: Sequence[str]) -> None:
        rows.append([name, *cells])

    add_row("examples", [f"{split['examples']:,}" for split in splits])
    add_row("image", [f"{shape_text(split['shape'])} {split['dtype']}" for split in splits])
    add_row("missing values", [f"{split['missing']:,}" for split in splits])
    add_row("pixels", [_pixel_range(split) for split in splits])
    add_row("labels", [f"{split['label_min']} to {split['label_max']}" for split in splits])
    if "origin" in report:
        add_row("origin", [report["origin"].get(split, "") for split in report["splits"]])
    names = report["class_names"]
    if len(names) <= MAX_CLASS_ROWS:
        for label, name in enumerate(names):
            add_row(f"class {name}", [f"{split['class_counts'][label]:,}" for split in splits])
    else:
        add_row(f"each of {len(names)} classes", [_count_range(split) for split in splits])
    lines = [*_aligned(rows), f"fingerprint {report['fingerprint'][:16]}"]
    if "corrections" in report:
        counts = report["corrections"]
        lines.append(
            f"corrections: {counts['relabelled']:,} labels changed, {counts['removed']:,} images "
            "left out"
        )
    return "\n".join(lines)


def _pixel_range(split: Mapping) -> str:
    return f"{split['pixel_min']} to {split['pixel_max']}, mean {split['pixel_mean']:.2f}"


def _count_range(split: Mapping) -> str:
    return f"{min(split['class_counts']):,} to {max(split['class_counts']):,}"


def _aligned(rows: list[list[str]]) -> list[str]:
    """Returns lines with the first column aligned left, the others right."""
    columns = zip(*rows, strict=True)
    widths = [max(len(cell) for cell in column) for column in columns]
    lines = []
    for name, *cells in rows:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *padded]))
    return lines


def sample_indices(labels: np.ndarray, per_class: int, seed: int = 0) -> list[np.ndarray]:
    """Chooses examples for a grid of samples.

    labels: int [N]. Returns for each class up to the highest label the indices, int64, of
    `per_class` of its examples, or of all of them if it has fewer.
    """
    generator = np.random.default_rng(seed)
    samples = []
    for label in range(int(labels.max()) + 1):
        indices = generator.permutation(np.flatnonzero(labels == label))
        samples.append(indices[:per_class])
    return samples
