"""CSV files with a row for each image: finds and reads them, or refuses them by name and line."""

import codecs
import contextlib
import gzip
import math
import re
import warnings
import zlib
from collections import defaultdict
from pathlib import Path
from typing import TextIO

import numpy as np

from imgcls_jax.data.dataset import SPLIT_NAMES, Arrays, log_unused, split_of
from imgcls_jax.errors import DataError, listed, printable
from imgcls_jax.foreign import check_regular

CSV_NAME = re.compile(r"\.csv(\.gz)?$", re.IGNORECASE)
PACKED_SUFFIXES = (".zip", ".bz2", ".xz", ".7z", ".rar")
MAX_LINE = 2**26  # characters: a small gzip file can hold a line that fills the memory
CHUNK_ROWS = 1000  # rows that are searched for a wrong value at a time
HEADER_MARGIN = "\ufeff \t\r\n"  # around the header: the mark of UTF, and white space
MISSING_VALUES = ("", "nan", "na", "n/a", "null", "none", "?")


def find_csv(path: Path) -> dict[str, Path]:
    """Returns the CSV file of each split, which may be compressed by gzip (.csv.gz).

    path: a file, or a folder with a CSV file for train, one for test, and perhaps one for
    validation. Each has one of SPLIT_NAMES as a word of its name; "train" and "test" may also be
    part of a word, as in mytrain.csv. Other files are logged as unused. Raises DataError if there
    is not exactly one for train and one for test, or one for two splits.
    """
    if path.is_file():
        return {"train": path}
    files = [file for file in sorted(path.iterdir()) if not file.name.startswith(".")]
    tables = [file for file in files if CSV_NAME.search(file.name)]
    splits = {}
    for split in SPLIT_NAMES:
        matches = _tables_of(split, tables)
        if matches:
            splits[split] = matches[0]
        if split != "validation" and len(matches) != 1:
            present = ", ".join(file.name for file in tables) or "no CSV file at all"
            raise DataError(
                f"{path} should hold exactly one CSV file with the word {split!r} in its name; it "
                f"holds {present}.{_unpack_hint(files)} Rename the files, or name a single file by "
                "--config.data.path, which is then split."
            )
    for file in splits.values():
        names = [split for split in splits if splits[split] == file]
        if len(names) > 1:
            raise DataError(
                f"{path}: {file.name} would be both {' and '.join(names)}. Rename it, or name it "
                "alone by --config.data.path, and it is split."
            )
    unused = [file.name for file in files if file not in splits.values()]
    used = ", ".join(file.name for file in splits.values())
    log_unused(path, unused, f"{used} are")
    return splits


def is_unlabelled(path: Path) -> bool:
    """Returns whether the header of a file names pixels and no label, as Kaggle's test files do.

    It is False for a file that cannot be read, which reading it will say.
    """
    try:
        check_regular(path)
        with _open(path) as file:
            columns = _names_in(file.readline(MAX_LINE))
    except (OSError, EOFError, zlib.error):
        return False
    return _has_only_pixels(columns)


def _tables_of(split: str, tables: list[Path]) -> list[Path]:
    matches = []
    others = []
    for file in tables:
        words = re.split(r"[\W\d_]+", file.name)
        splits = [split_of(word) for word in words]
        if split in splits:
            matches.append(file)
        if not any(splits):
            others.append(file)
    if matches or split == "validation":
        return matches
    return [file for file in others if split in file.name.lower()]


def _unpack_hint(files: list[Path]) -> str:
    for file in files:
        if file.suffix.lower() in PACKED_SUFFIXES:
            return f" Unpack {file.name} first."
    return ""


def read_csv(path: Path) -> Arrays:
    """Reads a CSV file: images uint8 [N, S, S, 1] and labels int32 [N].

    The file has a column `label` and S * S columns of pixels. Raises DataError with the line of the
    file, the header being line 1, and the column if there is one.
    """
    images, labels = _read(path, needs_labels=True)
    return images, labels


def read_images(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Reads a CSV file as `read_csv` does; labels are None if it has no column `label`."""
    return _read(path, needs_labels=False)


def _read(path: Path, *, needs_labels: bool) -> tuple[np.ndarray, np.ndarray | None]:
    columns, table = _read_table(path, needs_labels=needs_labels)
    labels = None
    if "label" in columns:
        label = columns.index("label")
        labels = table[:, label].astype(np.int32)
        table = np.delete(table, label, axis=1)
    side = math.isqrt(table.shape[1])
    return table.astype(np.uint8).reshape(-1, side, side, 1), labels


def _read_table(path: Path, *, needs_labels: bool) -> tuple[list[str], np.ndarray]:
    """Returns the names of the columns, and the checked values int16 [N, columns]."""
    import pandas

    try:
        columns = _read_columns(path, needs_labels=needs_labels)
        with _open(path) as file, warnings.catch_warnings():
            # NumPy warns of "inf" as an integer.
            warnings.simplefilter("error", category=RuntimeWarning)
            table = pandas.read_csv(file, header=None, skiprows=1, dtype=np.int16).to_numpy()
    except pandas.errors.EmptyDataError as error:
        raise DataError(f"{path} has a header but no rows. Every row is one image.") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}). Copy or download it again.") from error
    except (ValueError, OverflowError, RuntimeWarning) as error:
        reason = " ".join(str(error).split())[:200]
        message = _find_wrong_value(path, columns)
        if not message:
            message = f"{path} cannot be read as integers ({reason})."
        raise DataError(message) from error
    _check_range(path, columns, table)
    return columns, table


def _check_range(path: Path, columns: list[str], table: np.ndarray) -> None:
    """Raises DataError if a pixel is not from 0 to 255, or a label is negative."""
    too_large = table > 255
    if "label" in columns:
        too_large[:, columns.index("label")] = False
    wrong = np.argwhere((table < 0) | too_large)
    if len(wrong):
        row, column = wrong[0]
        raise DataError(
            f"{_cell(path, columns, row, column)}: found {table[row, column]}, where "
            f"{_accepted(columns, column)} is accepted ({len(wrong)} such values in the file). "
            "Correct the value or remove the line."
        )


def _open(path: Path) -> TextIO:
    """Opens a CSV file of any system: UTF-8 or UTF-16, compressed by gzip or not, any line ends."""
    open_file = open
    if path.suffix.lower() == ".gz":
        open_file = gzip.open
    with open_file(path, "rb") as file:
        start = file.read(2)
    if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        encoding = "utf-16"
    elif start[:1] == b"\0":  # half of an ASCII character in UTF-16 without a mark
        encoding = "utf-16-be"
    elif start[1:] == b"\0":
        encoding = "utf-16-le"
    else:
        encoding = "utf-8-sig"
    return open_file(path, "rt", encoding=encoding, errors="replace", newline=None)


def _cell(path: Path, columns: list[str], row: int, column: int) -> str:
    return f"{path}, line {row + 2}, column {column + 1} ({columns[column]!r})"


def _accepted(columns: list[str], column: int) -> str:
    if columns[column] == "label":
        return "a class number from 0"
    return "an integer from 0 to 255"


def _read_columns(path: Path, *, needs_labels: bool) -> list[str]:
    """Returns the names in the header, after checking the number of columns in every line.

    pandas would name neither a line that is too short nor an empty one.
    """
    with _open(path) as file:
        header = file.readline(MAX_LINE)
        columns = _names_in(header)
        _check_header(path, columns, needs_labels=needs_labels)
        _check_lines(path, file, header, num_columns=len(columns))
    return columns


def _names_in(header: str) -> list[str]:
    columns = []
    for name in header.split(","):
        name = name.strip().strip("\"'")
        if name.lower() == "label":
            name = "label"
        columns.append(name)
    return columns


def header_warnings(path: Path) -> tuple[str, ...]:
    """Returns a warning of column names that are in the header several times, () if none is."""
    with _open(path) as file:
        names = _names_in(file.readline(MAX_LINE))
    columns_by_name = defaultdict(list)
    for column, name in enumerate(names, 1):
        columns_by_name[name].append(column)
    repeated = []
    for name, columns in columns_by_name.items():
        if name and len(columns) > 1:
            repeated.append(f"{name!r:.40} (columns {listed(columns)})")
    if not repeated:
        return ()
    return (
        f"{printable(path.name)}, line 1: names of several columns: {listed(repeated)}. Pixels are "
        "read in the order of the columns: is one of them there twice, and another missing?",
    )


def _check_header(path: Path, columns: list[str], *, needs_labels: bool) -> None:
    if _has_only_pixels(columns):
        if not needs_labels:
            return
        raise DataError(
            f"{path} has no column 'label', and {len(columns)} others, a square number: pixels "
            "without labels, as the test files of Kaggle's competitions have. Training needs "
            "labels: name a file that has them by --config.data.path. `imgcls predict RUN FILE` "
            "classifies images without labels."
        )
    if columns.count("label") != 1:
        shown = ", ".join(repr(name)[:40] for name in columns[:3])
        raise DataError(
            f"{path}, line 1: {columns.count('label')} of its {len(columns)} columns ({shown}, "
            "...) are named 'label'. The first line must name the columns, separated by commas: "
            "'label', and one for each pixel."
        )
    pixels = len(columns) - 1
    if pixels == 0 or math.isqrt(pixels) ** 2 != pixels:
        raise DataError(
            f"{path}, line 1: there are {pixels} columns besides 'label'. Images are square: a "
            "square number of pixel columns is accepted, such as 784 for 28 x 28. Remove the "
            "columns that are no pixels."
        )


def _has_only_pixels(columns: list[str]) -> bool:
    """Returns whether a header names pixels and no label, as those of Kaggle's test files."""
    side = math.isqrt(len(columns))
    is_square = side > 1 and side**2 == len(columns)
    return "label" not in columns and is_square and not columns[0].isdigit()


def _check_lines(path: Path, file: TextIO, header: str, *, num_columns: int) -> None:
    """Raises DataError for a later line that is empty, has other columns or repeats the header.

    Empty lines at the end of the file are accepted.
    """
    empty_line = 0
    number = 1
    while line := file.readline(MAX_LINE):
        number += 1
        if not line.strip():
            empty_line = empty_line or number
            continue
        count = line.count(",") + 1
        problem = ""
        if empty_line:
            problem = f"line {empty_line} is empty"
        elif count != num_columns:
            problem = f"line {number} has {count} columns"
        elif line.strip(HEADER_MARGIN) == header.strip(HEADER_MARGIN):
            raise DataError(
                f"{path}, line {number}: the header of line 1 is repeated here, as it is where "
                "CSV files were joined. Remove that line."
            )
        if problem:
            raise DataError(
                f"{path}: {problem}, where line 1 names {num_columns}. Correct or remove that line."
            )


def _find_wrong_value(path: Path, columns: list[str]) -> str:
    """Returns a message on the first value of a CSV file that is no integer.

    It is "" if there is none, or a quotation mark keeps pandas from telling lines apart.
    """
    import pandas

    start = 0
    with _open(path) as file, contextlib.suppress(pandas.errors.ParserError):
        chunks = pandas.read_csv(
            file,
            header=None,
            skiprows=1,
            dtype=str,
            keep_default_na=False,
            chunksize=CHUNK_ROWS,
        )
        for chunk in chunks:
            numbers = chunk.apply(pandas.to_numeric, errors="coerce").to_numpy(np.float64)
            is_integer = np.isfinite(numbers) & (numbers == np.round(numbers))
            is_integer &= abs(numbers) < 2**15
            wrong = np.argwhere(~is_integer)
            if len(wrong):
                row, column = wrong[0]
                text = chunk.iat[row, column].strip()
                place = _cell(path, columns, start + row, column)
                if text.lower() in MISSING_VALUES:
                    return f"{place}: the value is missing. Fill it or remove the line."
                accepted = _accepted(columns, column)
                return f"{place}: {text!r} is not {accepted}. Correct it or remove the line."
            start += len(chunk)
    return ""
