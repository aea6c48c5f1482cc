"""The index of a folder of runs: one static page with a table that can be sorted and filtered."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from imgcls_jax import files
from imgcls_jax.errors import RunError
from imgcls_jax.foreign import open_image
from imgcls_jax.reporting import formats, page, templates
from imgcls_jax.run.ensemble_folder import EnsembleFolder, count_parameters, voters
from imgcls_jax.run.folder import CONFIG, ENSEMBLE, REPORT, RunFolder

log = logging.getLogger(__name__)

INDEX = "index.html"
THUMBNAIL = 160  # pixels of its width
MAX_PIXELS = 50_000_000  # of a picture that is made smaller
# The title of each column and, if it holds numbers, how they are formatted.
COLUMNS: dict[str, tuple[str, Callable[[Any], str] | None]] = {
    "study": ("Study", None),
    "data": ("Data", None),
    "model": ("Model", None),
    "accuracy": ("Accuracy", formats.percent),
    "loss": ("Loss", "{:.4f}".format),
    "parameters": ("Parameters", "{:,}".format),
    "trainable": ("Trainable", "{:,}".format),
    "epochs": ("Epochs", "{:,}".format),
    "train_seconds": ("Time", formats.duration),
    "seed": ("Seed", str),
    "device": ("Device", None),
}
FIGURES = ("accuracy", "loss", "parameters", "epochs", "train_seconds")  # of test.json
# Columns that the page shows on demand.
MORE = ("study", "parameters", "trainable", "epochs", "seed", "device")
FILTERS = ("data", "model", "study")
UNKNOWN = "\N{EN DASH}"
Facts = dict[str, Any]  # about a run, by the keys of COLUMNS


def write(folder: Path) -> Path:
    """Writes index.html, the page of all finished runs and ensembles in `folder`.

    Returns its path. Each row needs JSON files alone; it has a thumbnail if dashboard.png or
    ensemble.png is there, and a link if the run's page is. Damaged runs are left out with a
    warning, and so are trials. Raises RunError if there is no finished run.
    """
    rows = _rows(folder)
    if not rows:
        raise RunError(
            f"There is no finished run below {folder}: no folder with {CONFIG} and {REPORT}, or "
            "with published results."
        )
    columns = []
    for key, (title, number_format) in COLUMNS.items():
        column = {"key": key, "title": title}
        column["number"] = number_format is not None
        column["more"] = key in MORE
        columns.append(column)
    name = folder.resolve().name
    plural = "s" * (len(rows) != 1)
    body = templates.render(
        "index.html",
        name=name,
        count=f"{len(rows):,} finished run{plural}",
        filters=_filters([row_facts for _, row_facts in rows]),
        columns=columns,
        rows=[_row(folder, path, row_facts) for path, row_facts in rows],
    )
    html = page.page(
        f"Runs: {name}",
        body,
        styles=("page.css", "index.css"),
        script=page.scripts(page.SORTING, "index.js"),
    )
    files.sweep(folder)
    files.write_atomically(folder / INDEX, html.encode())
    return folder / INDEX


def facts(folder: Path, path: Path) -> Facts:
    """What the table says of the run or ensemble at `path` in `folder`, by the keys of COLUMNS.

    None stands for what is unknown. Raises RunError if a file is missing or damaged.
    """
    if (path / ENSEMBLE).exists():
        row, test = _ensemble_facts(EnsembleFolder(path))
    else:
        row, test = _run_facts(RunFolder(path))
    study = path.relative_to(folder).parent
    row["study"] = study.as_posix() if study.name else None
    for key in FIGURES:
        row.setdefault(key, test.get(key))
    return {key: row.get(key) for key in COLUMNS}


def _run_facts(run: RunFolder) -> tuple[Facts, Mapping[str, Any]]:
    """The facts that are not in the run's scores on the test set, and these scores."""
    test = run.test
    config = run.config
    row = {
        "data": config.data.get("name") or config.data.source,
        "model": config.model.name,
        "seed": config.seed,
        "device": run.environment.get("device"),
        "trainable": test.get("trainable", test["parameters"]),
    }
    return row, test


def _ensemble_facts(run: EnsembleFolder) -> tuple[Facts, Mapping[str, Any]]:
    summary = run.summary
    num_voters = len(voters(summary))
    row = {"model": f"ensemble of {num_voters}", "parameters": count_parameters(summary)}
    return row, summary["test"]


def _rows(folder: Path) -> list[tuple[Path, Facts]]:
    """The path and the facts of each run and ensemble whose files can be read."""
    rows = []
    for path in _finished(folder):
        try:
            if RunFolder(path).is_trial:
                log.info("Left out: %s is a trial on a share of the images.", path)
            else:
                rows.append((path, facts(folder, path)))
        except RunError as error:
            log.warning("Left out: %s", error)
    return rows


def _finished(folder: Path) -> Iterator[Path]:
    """The folders of finished runs and ensembles, sorted by name; none of them is in another."""
    for name, subfolders, file_names in os.walk(folder):
        subfolders.sort()
        if CONFIG not in file_names and ENSEMBLE not in file_names:
            continue
        subfolders.clear()
        if REPORT in file_names or ENSEMBLE in file_names or RunFolder(name).published:
            yield Path(name)


def _row(folder: Path, path: Path, row_facts: Facts) -> dict[str, Any]:
    """A row of the table, as the template takes it."""
    link = ""
    if (path / REPORT).exists():  # a published run has no page unless it was written again
        page_path = path.relative_to(folder) / REPORT
        link = quote(page_path.as_posix())
    return {
        "name": path.resolve().name,
        "link": link,
        "picture": _thumbnail(path),
        "study": row_facts["study"],
        "cells": [_cell(key, row_facts[key]) for key in COLUMNS],
    }


def _cell(key: str, value: Any) -> dict[str, Any]:
    title, number_format = COLUMNS[key]
    text = UNKNOWN
    if value is not None:
        to_text = number_format or str
        text = to_text(value)
    return {
        "title": title,
        "number": number_format is not None,
        "more": key in MORE,
        "value": "" if value is None else value,
        "text": text,
    }


def _thumbnail(path: Path) -> str:
    """The source of an <img> that shows the run's picture; "" if there is none."""
    picture = path / "dashboard.png"
    if (path / ENSEMBLE).exists():
        picture = path / "ensemble.png"
    if not picture.exists():
        return ""
    try:
        with open_image(picture, ("PNG",)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise OSError(f"it has {image.width:,} x {image.height:,} pixels")
            return page.thumbnail(image, THUMBNAIL)
    except Exception as error:  # a damaged file can make Pillow raise nearly anything
        reason = " ".join(str(error).split())
        log.warning("Without its picture: %s (%s).", picture, reason[:200])
        return ""


def _filters(rows: Sequence[Facts]) -> list[dict[str, Any]]:
    """The fields of the form that the page's script shows and listens to."""
    filters = []
    for key in FILTERS:
        title, _ = COLUMNS[key]
        choices = {str(row[key]) for row in rows if row[key] is not None}
        filters.append({"key": key, "title": title, "choices": sorted(choices)})
    return filters
