"""Corrections of a data set: a CSV file with labels to change and images to leave out.

The file has a line for each image, under a header:

    split,index,new_label,label,image
    train,4711,cat,dog,05f7a3cc20b8d1e6
    test,12,remove,,

`index` counts the images of a split of the source from 0, before anything is held out of it.
`new_label` is the name of a class, or "remove". `label`, the class so far, and `image`, the image's
digest, may be empty or missing; where they are there, they must agree with the data, so that a file
for another version of the data is refused. Other columns, such as a reason, are not read. A name
that a spreadsheet would take for a formula has a quote in front.
"""

import csv
import dataclasses
import hashlib
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from imgcls_jax.data.checks import image_digests
from imgcls_jax.data.dataset import Dataset, Datasets
from imgcls_jax.data.lazy_images import chunks
from imgcls_jax.errors import FORMULAS, DataError, did_you_mean, listed
from imgcls_jax.foreign import open_regular

REMOVE = "remove"  # the new label of an image that is left out
REQUIRED = ("split", "index", "new_label")
OPTIONAL = ("label", "image")
MAX_BYTES = 2**28  # of a file, which has a line for each image at most
MAX_DIGITS = 18  # of an index
QUOTED = (*FORMULAS, "'")  # begin names that have a quote in front


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
    """A file of corrections, and its content."""

    path: Path
    content: bytes
    lines: tuple[Correction, ...]

    @property
    def report(self) -> dict:
        """What the data report says of them, ready for JSON."""
        removed = sum(line.new_label == REMOVE for line in self.lines)
        return {
            "sha256": hashlib.sha256(self.content).hexdigest(),
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
        header = text.partition("\n")[0]
        delimiter = ","
        if header.count(";") > header.count(","):  # as of Excel in many languages
            delimiter = ";"
        stream = io.StringIO(text, newline="")
        table = csv.DictReader(stream, delimiter=delimiter, strict=True)
        _check_columns(file, table.fieldnames or ())
        lines = tuple(_line(row, f"{file}, line {table.line_num}") for row in table)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file} is not a CSV file in UTF-8 ({error}). Save it as one.") from error
    _check_once(lines)
    return Corrections(file, content, lines)


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
    values = {name: row.get(name) or "" for name in REQUIRED + OPTIONAL}
    for name in ("split", "index", "image"):
        values[name] = values[name].strip()
    for name in ("new_label", "label"):
        values[name] = _unquoted(values[name])
    index = values["index"]
    if not (index.isascii() and index.isdigit() and len(index) <= MAX_DIGITS):
        raise DataError(f"{place}: the index is {index!r:.40}. Give a number, counted from 0.")
    new_label = values["new_label"].strip()
    if not new_label:
        raise DataError(f"{place}: new_label is empty. Give a class, or {REMOVE!r}.")
    if new_label == REMOVE:
        values["new_label"] = REMOVE
    return Correction(**values | {"place": place, "index": int(index)})


def quoted(name: str) -> str:
    """Returns the name of a class as the file has it."""
    if name.lstrip().startswith(QUOTED):
        return f"'{name}"
    return name


def _unquoted(text: str) -> str:
    name = text.removeprefix("'")
    if name.lstrip().startswith(QUOTED):
        return name
    return text


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


def add(corrections: Corrections, datasets: Datasets) -> Datasets:
    """Returns the data sets with their corrections, which `Dataset.correct` makes.

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
    return {split: _add(lines, datasets[split]) for split, lines in splits.items()}


def _add(lines: list[Correction], dataset: Dataset) -> Dataset:
    _check_images(lines, dataset)
    corrected = dataset.labels.copy()
    for line in lines:
        if line.new_label == REMOVE:
            corrected[line.index] = -1
        else:
            corrected[line.index] = _label(line.new_label, dataset.class_names)
    return dataclasses.replace(dataset, corrected=corrected)


def _label(text: str, class_names: Sequence[str]) -> int | None:
    """Returns the number of the class that a text names, also with white space around it."""
    for name in (text, text.strip()):
        if name in class_names:
            return class_names.index(name)
    return None


def _check_images(lines: list[Correction], dataset: Dataset) -> None:
    """Raises DataError for the first line that does not fit the images of a split."""
    class_names = dataset.class_names
    for line in lines:
        if line.index >= len(dataset):
            raise DataError(
                f"{line.place}: there is no {line.split} image {line.index}. The split has "
                f"{len(dataset):,}, counted from 0."
            )
        if line.new_label == REMOVE and REMOVE in class_names:
            raise DataError(
                f"{line.place}: new_label is {REMOVE!r}, which is a class of this data, too. "
                "Rename the class."
            )
        if line.new_label != REMOVE and _label(line.new_label, class_names) is None:
            hint = did_you_mean(line.new_label, class_names)
            raise DataError(
                f"{line.place}: there is no class {line.new_label!r}.{hint} Give {REMOVE!r} or one "
                f"of {listed(class_names)}."
            )
        label = dataset.labels[line.index]
        if line.label.strip() and _label(line.label, class_names) != label:
            raise DataError(
                f"{line.place}: the {line.split} image {line.index} has the label "
                f"{class_names[label]!r}, not "
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
