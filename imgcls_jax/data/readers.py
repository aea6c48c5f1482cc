"""Files of arrays: MNIST's idx, CSV and npz. Each reader gives arrays or refuses the file by name and place."""

import codecs
import contextlib
import gzip
import math
import os
import re
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import numpy as np

from imgcls_jax.data.dataset import SPLIT_NAMES, split_of, tell_unused
from imgcls_jax.errors import DataError

Split = tuple[np.ndarray, np.ndarray]  # images, labels

IDX_PREFIXES = {"train": "train", "test": "t10k"}
IDX_DIMENSIONS = {"images": 3, "labels": 1}
DEFLATE_MOST = 1032  # bytes that one compressed byte can stand for


def find_idx(folder: Path) -> dict[str, tuple[Path, Path]]:
    """The idx files of `folder`: split -> (images, labels). The test pair may be missing; half a pair may not."""
    found = {}
    for split, prefix in IDX_PREFIXES.items():
        pair = [_find_idx_file(folder, prefix, kind) for kind in IDX_DIMENSIONS]
        if all(pair):
            found[split] = tuple(pair)
        elif any(pair) or split == "train":
            names = [
                f"{prefix}-{kind}-idx{number}-ubyte" for kind, number in IDX_DIMENSIONS.items()
            ]
            missing = [name for name, file in zip(names, pair, strict=True) if not file]
            raise DataError(
                f"{folder} has no {' and no '.join(missing)} (with or without .gz). Copy it there, or name another "
                "folder by --config.data.path."
            )
    used = {file.name.removesuffix(".gz") for pair in found.values() for file in pair}
    names = sorted(file.name for file in folder.iterdir() if "ubyte" in file.name)
    rest = [name for name in names if name.removesuffix(".gz") not in used]
    tell_unused(folder, rest, "the files of train and t10k are")
    return found


def _find_idx_file(folder: Path, prefix: str, kind: str) -> Path | None:
    for joint in "-.":
        for suffix in ("", ".gz"):
            file = folder / f"{prefix}-{kind}{joint}idx{IDX_DIMENSIONS[kind]}-ubyte{suffix}"
            if file.is_file():
                return file
    return None


def read_idx(images: Path, labels: Path) -> Split:
    """A pair of idx files: images uint8 [N, H, W, 1] and labels int32 [N]."""
    pixels, numbers = _read_idx_file(images, "images"), _read_idx_file(labels, "labels")
    if len(pixels) != len(numbers):
        raise DataError(
            f"{images} holds {len(pixels)} images, {labels} {len(numbers)} labels. "
            "They are not of the same set: copy both from the same place."
        )
    return pixels[..., None], numbers.astype(np.int32)


def _read_idx_file(path: Path, kind: str) -> np.ndarray:
    """uint8 [N, H, W] for images, [N] for labels."""
    dimensions = IDX_DIMENSIONS[kind]
    start, packed = 4 + 4 * dimensions, path.suffix == ".gz"
    try:
        room = os.path.getsize(path) * (DEFLATE_MOST if packed else 1)
        with gzip.open(path) if packed else open(path, "rb") as file:
            header = file.read(start)
            magic, expected = header[:4], bytes((0, 0, 8, dimensions))
            if magic != expected:
                raise DataError(
                    f"{path} is no idx file of {kind}: it starts with the bytes {magic.hex(' ')} where "
                    f"{expected.hex(' ')} is expected. Copy or download it again; a file ending in .gz must be "
                    "compressed, any other must not."
                )
            if len(header) < start:
                raise DataError(
                    f"{path} ends inside its header, after {len(header)} bytes. Copy or download it again."
                )
            shape = np.frombuffer(header, ">u4", dimensions, offset=4).tolist()
            size = math.prod(shape)
            # What the header announces is not asked for where the file cannot hold it.
            content = file.read(min(size, room) + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}). Copy or download it again.") from error
    if len(content) != size:
        state = "truncated: it holds" if len(content) < size else "too long: it holds more than"
        raise DataError(
            f"{path} is {state} {start + min(len(content), size)} bytes, where its header announces {start + size} "
            f"({' x '.join(map(str, shape))}). Copy or download it again."
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


CSV_NAME = re.compile(r"\.csv(\.gz)?$", re.IGNORECASE)
PACKED = (".zip", ".bz2", ".xz", ".7z", ".rar")
LONGEST_LINE = 2**26  # characters: gzip makes much of little


def find_csv(path: Path) -> dict[str, Path]:
    """The CSV files of `path`: a folder with one *train*.csv and one *test*.csv, and one for validation where it has
    val, valid or validation as a word of its name; or one file. Each may be compressed by gzip (.csv.gz).

    What is there besides is named in a line.
    """
    if path.is_file():
        return {"train": path}
    files = [file for file in sorted(path.iterdir()) if file.name[0] != "."]
    tables = [file for file in files if CSV_NAME.search(file.name)]
    found = {}
    for split in ("train", "test"):
        found[split] = [file for file in tables if split in file.name.lower()]
        if len(found[split]) != 1:
            have = ", ".join(file.name for file in tables) or "no CSV file at all"
            packed = next(
                (f" Unpack {file.name} first." for file in files if file.suffix.lower() in PACKED),
                "",
            )
            raise DataError(
                f"{path} should hold exactly one CSV file with {split!r} in its name; it holds {have}.{packed} Rename "
                "the files, or name a single file by --config.data.path, which is then split."
            )
    words = {file: re.split(r"[\W\d_]+", file.name) for file in tables}
    found["validation"] = [file for file in tables if "validation" in map(split_of, words[file])]
    splits = {split: found[split][0] for split in SPLIT_NAMES if found[split]}
    rest = [file.name for file in files if file not in splits.values()]
    tell_unused(path, rest, f"{', '.join(file.name for file in splits.values())} are")
    return splits


def read_csv(path: Path) -> Split:
    """Images uint8 [N, S, S, 1] and labels int32 [N] of a CSV file: a `label` column, then S * S columns of pixels.

    Errors: DataError with the line of the file (the header being line 1), and the column where there is one.
    """
    import pandas

    try:
        columns = _csv_columns(path)
        with (
            _open_csv(path) as file,
            warnings.catch_warnings(action="error", category=RuntimeWarning),
        ):
            # The warnings are NumPy's, for "inf" as an integer.
            table = pandas.read_csv(file, header=None, skiprows=1, dtype=np.int16).to_numpy()
    except pandas.errors.EmptyDataError as error:
        raise DataError(f"{path} has a header but no rows. Every row is one image.") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}). Copy or download it again.") from error
    except (ValueError, OverflowError, RuntimeWarning) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            _csv_fault(path, columns) or f"{path} cannot be read as integers ({reason})."
        ) from error
    label = columns.index("label")
    low = table < 0
    high = table > 255
    high[:, label] = False
    wrong = np.argwhere(low | high)
    if len(wrong):
        row, column = wrong[0]
        raise DataError(
            f"{_cell(path, columns, row, column)}: found {table[row, column]}, where {_accepted(columns, column)} is "
            f"accepted ({len(wrong)} such values in the file). Correct the value or remove the line."
        )
    side = math.isqrt(len(columns) - 1)
    images = np.delete(table, label, axis=1).astype(np.uint8).reshape(-1, side, side, 1)
    return images, table[:, label].astype(np.int32)


def _open_csv(path: Path) -> TextIO:
    """A CSV file as text, its lines ending as Unix has them: by gzip or not, in UTF-8 or UTF-16, from any system."""
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    with opener(path, "rb") as file:
        start = file.read(2)
    encoding = "utf-8-sig"
    if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        encoding = "utf-16"
    elif 0 in start:  # half of a letter in UTF-16 without a mark
        encoding = "utf-16-be" if start[0] == 0 else "utf-16-le"
    return opener(path, "rt", encoding=encoding, errors="replace", newline=None)


def _cell(path: Path, columns: list[str], row: int, column: int) -> str:
    return f"{path}, line {row + 2}, column {column + 1} ({columns[column]!r})"


def _accepted(columns: list[str], column: int) -> str:
    return "a class number from 0" if columns[column] == "label" else "an integer from 0 to 255"


def _csv_columns(path: Path) -> list[str]:
    """The header's names, once every line has been found to have as many columns."""
    with _open_csv(path) as file:
        header = file.readline(LONGEST_LINE)
        columns = [name.strip().strip("\"'") for name in header.split(",")]
        columns = ["label" if name.lower() == "label" else name for name in columns]
        if (
            "label" not in columns
            and 1 < math.isqrt(len(columns)) ** 2 == len(columns)
            and not columns[0].isdigit()
        ):
            raise DataError(
                f"{path} has no column 'label', and {len(columns)} others, a square number: pixels without labels, as "
                "the test files of Kaggle's competitions have. Without labels nothing can be tested on them. Name the "
                "file with labels alone by --config.data.path; a share of it is then the test set."
            )
        if columns.count("label") != 1:
            shown = ", ".join(repr(name)[:40] for name in columns[:3])
            raise DataError(
                f"{path}, line 1: {columns.count('label')} of its {len(columns)} columns ({shown}, ...) are named "
                "'label'. The first line must name the columns, separated by commas: 'label', and one for each pixel."
            )
        side = math.isqrt(len(columns) - 1)
        if side == 0 or side**2 != len(columns) - 1:
            raise DataError(
                f"{path}, line 1: there are {len(columns) - 1} columns besides 'label'. Images are square: a square "
                "number of pixel columns is accepted, such as 784 for 28 x 28. Remove the columns that are no pixels."
            )
        blank = None
        lines = iter(lambda: file.readline(LONGEST_LINE), "")
        for number, line in enumerate(lines, start=2):
            count = line.count(",") + 1
            if not line.strip():
                blank = blank or number
            elif blank or count != len(columns):
                found = f"line {blank} is empty" if blank else f"line {number} has {count} columns"
                raise DataError(
                    f"{path}: {found}, where line 1 names {len(columns)}. Correct or remove that line."
                )
    return columns


def _csv_fault(path: Path, columns: list[str]) -> str | None:
    """Where and why the values of a CSV file are not all integers: its first such value.

    None where a quotation mark keeps the lines from being told apart.
    """
    import pandas

    start = 0
    options = {
        "header": None,
        "skiprows": 1,
        "dtype": str,
        "keep_default_na": False,
        "chunksize": 1000,
    }
    with _open_csv(path) as file, contextlib.suppress(pandas.errors.ParserError):
        for chunk in pandas.read_csv(file, **options):
            numbers = chunk.apply(pandas.to_numeric, errors="coerce").to_numpy(np.float64)
            whole = np.isfinite(numbers) & (numbers == np.round(numbers)) & (abs(numbers) < 2**15)
            wrong = np.argwhere(~whole)
            if len(wrong):
                row, column = wrong[0]
                text = chunk.iat[row, column].strip()
                missing = text.lower() in ("", "nan", "na", "n/a", "null", "none", "?")
                found = (
                    "the value is missing"
                    if missing
                    else f"{text!r} is not {_accepted(columns, column)}"
                )
                remedy = (
                    "Fill it or remove the line." if missing else "Correct it or remove the line."
                )
                return f"{_cell(path, columns, start + row, column)}: {found}. {remedy}"
            start += len(chunk)
    return None


def _check_npz_sizes(path: Path) -> None:
    """Raises ValueError where an array is to be larger than what is stored can be: NumPy would ask for its memory."""
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            with archive.open(entry) as file:
                read = {
                    (1, 0): np.lib.format.read_array_header_1_0,
                    (2, 0): np.lib.format.read_array_header_2_0,
                }
                if not (header := read.get(np.lib.format.read_magic(file))):
                    raise ValueError(f"{entry.filename} is of an unknown version")
                shape, _, dtype = header(file)
            if math.prod(shape) * dtype.itemsize > min(
                entry.file_size, entry.compress_size * DEFLATE_MOST
            ):
                raise ValueError(f"{entry.filename} announces {shape} {dtype}, which is not there")


def read_npz(path: Path) -> tuple[dict[str, Split], tuple[str, ...] | None]:
    """The splits of an .npz file, their types as stored, and its class names, or None where it has none.

    It holds the arrays train_images and train_labels, or x_train and y_train as Keras has them; the same of val and
    test where there are such sets; or images and labels only. Images of one channel may come as [N, H, W], labels as
    [N, 1]. Arrays besides are named in a line.
    """
    try:
        _check_npz_sizes(path)
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as content:
            names = _npz_names(content.files)
            used = [name for pair in names.values() for name in pair] + ["class_names"]
            arrays = {name: content[name] for name in used if name in content.files}
            others = [name for name in content.files if name not in used]
    except DataError as error:
        raise DataError(f"{path} {error}") from error
    except Exception as error:  # a damaged file can raise nearly anything
        raise DataError(
            f"{path} cannot be read as an .npz file of plain arrays ({error}). Write it by numpy.savez; arrays of "
            "objects are not accepted, since they may run code: store class_names as an array of text."
        ) from error
    missing = [name for pair in names.values() for name in pair if name not in arrays]
    if missing:
        raise DataError(
            f"{path} has no array {' and no '.join(missing)}; it holds {', '.join([*arrays, *others]) or 'none'}. "
            "Accepted are train_images and train_labels or x_train and y_train, the same of val and test, or images "
            "and labels, and class_names if wanted."
        )
    tell_unused(path, others, "its arrays of train, val and test are")
    splits = {}
    for split, (images, labels) in names.items():
        pixels, numbers = arrays[images], arrays[labels]
        column = numbers.ndim == 2 and numbers.shape[1] == 1  # as MedMNIST's
        splits[split] = (
            pixels[..., None] if pixels.ndim == 3 else pixels,
            numbers[:, 0] if column else numbers,
        )
    class_names = arrays.get("class_names")
    if class_names is None:
        return splits, None
    return splits, tuple(
        name.decode() if isinstance(name, bytes) else str(name)
        for name in class_names.ravel().tolist()
    )


def _npz_names(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Of each split that an .npz file has arrays of, the names of its images and labels."""
    named = {}
    for split, words in SPLIT_NAMES.items():
        pairs = [
            pair
            for word in words
            for pair in ((f"{word}_images", f"{word}_labels"), (f"x_{word}", f"y_{word}"))
        ]
        if split == "train":
            pairs.append(("images", "labels"))
        present = [pair for pair in pairs if set(pair) & set(names)]
        if len(present) > 1:
            raise DataError(
                f"has {present[0][0]} and {present[1][0]}: two {split} sets. Keep one of them."
            )
        if present or split == "train":
            named[split] = (present or pairs[-1:])[0]
    return named
