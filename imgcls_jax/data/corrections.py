"""Corrections of a data set: a CSV file with labels to change and images to leave out.

The file has a line for each image, under a header:

    split,index,new_label,label,image
    train,4711,cat,dog,05f7a3cc20b8d1e6
    test,12,remove,,

`index` counts the images of a split of the source from 0, before anything is held out of it.
`new_label` is the name of a class, or "remove". `label`, the class so far, and `image`, the image's
digest, may be empty or missing; where they are there, they must agree with the data, so that a file
for another version of the data is refused. Other columns, such as a reason, are not read.
"""

import csv
import dataclasses
import hashlib
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from imgcls_jax.data.checks import image_digests
from imgcls_jax.data.dataset import Dataset, Datasets
from imgcls_jax.data.lazy_images import chunks
from imgcls_jax.errors import DataError, did_you_mean, listed
from imgcls_jax.foreign import open_regular

REMOVE = "remove"  # the new label of an image that is left out
REQUIRED = ("split", "index", "new_label")
OPTIONAL = ("label", "image")
MAX_BYTES = 2**28  # of a file, which has a line for each image at most


@dataclasses.dataclass(frozen=True)
class Correction:
    """A line of a file of corrections.

    place: the file and the number of the line, for errors. label, image: "" where they are not
    given.
    """

    place: str
    split: str
    index: int
    new_label: str
    label: str = ""
    image: str = ""


@dataclasses.dataclass(frozen=True)
class Corrections:
    """A file of corrections. sha256: of its content."""

    path: Path
    sha256: str
    lines: tuple[Correction, ...]

    @property
    def report(self) -> dict:
        """What the data report says of them, ready for JSON."""
        removed = sum(line.new_label == REMOVE for line in self.lines)
        return {
            "sha256": self.sha256,
            "relabelled": len(self.lines) - removed,
            "removed": removed,
        }


def read(path: str) -> Corrections:
    """Reads a file of corrections.

    Raises DataError, with file and line, for a file that cannot be read, a column that is missing,
    an index that is not a number, and an image that two lines correct.
    """
    file = Path(os.path.expanduser(path))
    content = _content(file)
    try:
        text = content.decode("utf-8-sig")
        table = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        _check_columns(file, table.fieldnames or ())
        lines = tuple(_line(row, f"{file}, line {table.line_num}") for row in table)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file} is not a CSV file in UTF-8 ({error}). Save it as one.") from error
    _check_once(lines)
    return Corrections(file, hashlib.sha256(content).hexdigest(), lines)


def _content(file: Path) -> bytes:
    try:
        with open_regular(file) as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(
            f"The corrections {file} cannot be read ({error.strerror or error}). "
            "--config.data.corrections should name a CSV file, which `imgcls audit` writes."
        ) from error
    if len(content) > MAX_BYTES:
        raise DataError(f"{file} has more than {MAX_BYTES:,} bytes: it holds no corrections.")
    return content


def _check_columns(file: Path, columns: Iterable[str]) -> None:
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise DataError(
            f"{file} has no column {listed(missing)}. Its first line should be "
            f"{','.join(REQUIRED + OPTIONAL)}; the last two are optional."
        )


def _line(row: Mapping[str, str | None], place: str) -> Correction:
    values = {name: (row.get(name) or "").strip() for name in REQUIRED + OPTIONAL}
    index = values["index"]
    if not (index.isascii() and index.isdigit()):
        raise DataError(f"{place}: the index is {index!r}. Give a number, counted from 0.")
    if not values["new_label"]:
        raise DataError(f"{place}: new_label is empty. Give a class, or {REMOVE!r}.")
    return Correction(**values | {"place": place, "index": int(index)})


def _check_once(lines: Iterable[Correction]) -> None:
    first: dict[tuple[str, int], Correction] = {}
    for line in lines:
        image = (line.split, line.index)
        if image in first:
            raise DataError(
                f"{line.place}: the {line.split} image {line.index} is corrected a second time. "
                f"{first[image].place} is the first: keep one of them."
            )
        first[image] = line


def apply(corrections: Corrections, datasets: Datasets) -> tuple[Datasets, dict[str, np.ndarray]]:
    """Returns the corrected data sets, and the indices, int64, of the images that are left.

    datasets: by split, as their source has them. Raises DataError, with file and line, for a
    correction of an image or a class that is not there, or of an image whose label or digest is
    another one.
    """
    splits: dict[str, list[Correction]] = {split: [] for split in datasets}
    for line in corrections.lines:
        if line.split not in splits:
            raise DataError(
                f"{line.place}: the data has no split {line.split!r}. It has {listed([*splits])}."
            )
        splits[line.split].append(line)
    corrected = {}
    kept = {}
    for split, lines in splits.items():
        _check_images(lines, datasets[split])
        corrected[split], kept[split] = _apply(lines, datasets[split])
    return corrected, kept


def _apply(lines: list[Correction], dataset: Dataset) -> tuple[Dataset, np.ndarray]:
    labels = dataset.labels.copy()
    is_kept = np.ones(len(dataset), bool)
    for line in lines:
        if line.new_label == REMOVE:
            is_kept[line.index] = False
        else:
            labels[line.index] = dataset.class_names.index(line.new_label)
    kept = np.flatnonzero(is_kept)
    corrected = dataclasses.replace(dataset, labels=labels)
    if len(kept) < len(dataset):
        corrected = corrected.take(kept)
    return corrected, kept


def _check_images(lines: list[Correction], dataset: Dataset) -> None:
    """Raises DataError for the first line that does not fit the images of a split."""
    class_names = dataset.class_names
    for line in lines:
        if line.index >= len(dataset):
            raise DataError(
                f"{line.place}: there is no {line.split} image {line.index}. The split has "
                f"{len(dataset):,}, counted from 0."
            )
        if line.new_label != REMOVE and line.new_label not in class_names:
            hint = did_you_mean(line.new_label, class_names)
            raise DataError(
                f"{line.place}: there is no class {line.new_label!r}.{hint} Give {REMOVE!r} or one "
                f"of {listed(class_names)}."
            )
        label = class_names[dataset.labels[line.index]]
        if line.label and line.label != label:
            raise DataError(
                f"{line.place}: the {line.split} image {line.index} has the label {label!r}, not "
                f"{line.label!r}. The corrections are for other data: run `imgcls audit` again."
            )
    _check_digests([line for line in lines if line.image], dataset)


def _check_digests(lines: list[Correction], dataset: Dataset) -> None:
    if not lines:
        return
    indices = np.array([line.index for line in lines])
    images = dataset.take(indices).images
    digests = np.concatenate([image_digests(chunk) for chunk in chunks(images)])
    for line, digest in zip(lines, digests, strict=True):
        if line.image != digest_text(digest):
            raise DataError(
                f"{line.place}: the {line.split} image {line.index} is not the one that the line "
                "was written for. The corrections are for other data: run `imgcls audit` again."
            )


def digest_text(digest: np.uint64) -> str:
    """Returns a digest of `image_digests` as the column `image` has it: 16 hexadecimal digits."""
    return f"{int(digest):016x}"
