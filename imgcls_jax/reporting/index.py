"""The index of a folder of runs: one static page with a table to sort and filter, and a link to each run's page."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from imgcls_jax.errors import RunError
from imgcls_jax.files import write_atomically
from imgcls_jax.foreign import open_image
from imgcls_jax.reporting import page
from imgcls_jax.run.folder import CONFIG, ENSEMBLE, REPORT, RunFolder

log = logging.getLogger(__name__)

INDEX = "index.html"
THUMBNAIL = 160  # pixels of its width
MOST_PIXELS = 50_000_000  # of a picture that is made smaller
# Of each column its title and, where it holds figures, how they are written.
COLUMNS: dict[str, tuple[str, Callable[[Any], str] | None]] = {
    "study": ("Study", None),
    "data": ("Data", None),
    "model": ("Model", None),
    "accuracy": ("Accuracy", page.percent),
    "loss": ("Loss", "{:.4f}".format),
    "parameters": ("Parameters", "{:,}".format),
    "trainable": ("Trainable", "{:,}".format),
    "epochs": ("Epochs", "{:,}".format),
    "train_seconds": ("Time", page.duration),
    "seed": ("Seed", str),
    "device": ("Device", None),
}
FIGURES = ("accuracy", "loss", "parameters", "epochs", "train_seconds")  # of test.json
FILTERS = ("data", "model", "study")
UNKNOWN = "\N{EN DASH}"


def write(folder: Path) -> Path:
    """Writes `folder`/index.html, the page of all finished runs and ensembles below the folder, and returns its path.

    Needs their JSON files alone; a thumbnail is made of dashboard.png or ensemble.png where that is there. What is
    damaged is left out with a warning. Raises RunError where there is no finished run.
    """
    rows = []
    for path in _finished(folder):
        try:
            rows.append((path, facts(folder, path)))
        except RunError as error:
            log.warning("Left out: %s", error)
    if not rows:
        raise RunError(
            f"There is no finished run below {folder}: no folder with {CONFIG} and {REPORT}, or with published results."
        )
    name, script = folder.resolve().name, Path(__file__).with_name("index.js").read_text()
    body = page.render(
        "index.html",
        name=name,
        count=f"{len(rows):,} finished run{'s' * (len(rows) != 1)}",
        filters=_filters([found for _, found in rows]),
        columns=[
            {"key": key, "title": title, "number": bool(form)}
            for key, (title, form) in COLUMNS.items()
        ],
        rows=[_row(folder, *row) for row in rows],
        script=Markup(script),
    )
    html = page.page(f"Runs: {name}", body, styles=("page.css", "index.css"), script=script)
    write_atomically(folder / INDEX, html.encode())
    return folder / INDEX


def facts(folder: Path, path: Path) -> dict[str, Any]:
    """What the table says of the run or the ensemble in `path` below `folder`, by the keys of COLUMNS; None: unknown.

    Raises RunError where a file of it is missing or damaged.
    """
    run, parent = RunFolder(path), path.relative_to(folder).parent
    if (path / ENSEMBLE).exists():
        found = run.read_json(ENSEMBLE)
        members = [member["parameters"] for member in found["members"] if member["weight"]]
        test = found["test"]
        known = {"model": f"ensemble of {len(members)}", "parameters": sum(members)}
    else:
        test, config = run.test, run.config
        data = config.data.get("name") or config.data.source
        known = {"data": data, "model": config.model.name, "seed": config.seed}
        known |= {
            "device": run.environment.get("device"),
            "trainable": test.get("trainable", test["parameters"]),
        }
    known |= {"study": parent.as_posix() if parent.name else None}
    return {key: known.get(key, test.get(key) if key in FIGURES else None) for key in COLUMNS}


def _finished(folder: Path) -> Iterator[Path]:
    """The folders of finished runs and ensembles, sorted by name; none of them is in another."""
    for path, inner, files in os.walk(folder):
        inner.sort()
        if CONFIG in files or ENSEMBLE in files:
            inner.clear()
            if REPORT in files or ENSEMBLE in files or RunFolder(path).published:
                yield Path(path)


def _row(folder: Path, path: Path, found: Mapping[str, Any]) -> dict[str, Any]:
    cells = []
    for key, (title, form) in COLUMNS.items():
        value = found[key]
        text = (form or str)(value) if value is not None else UNKNOWN
        cells.append(
            {
                "title": title,
                "number": bool(form),
                "value": "" if value is None else value,
                "text": text,
            }
        )
    link = ""  # published runs have no page unless it was written again
    if (path / REPORT).exists():
        link = quote((path.relative_to(folder) / REPORT).as_posix())
    return {"name": path.resolve().name, "link": link, "picture": _thumbnail(path), "cells": cells}


def _thumbnail(path: Path) -> str:
    """A small dashboard, as the source of an <img>; nothing where there is no picture."""
    picture = path / ("ensemble.png" if (path / ENSEMBLE).exists() else "dashboard.png")
    if not picture.exists():
        return ""
    try:
        with open_image(picture, ("PNG",)) as image:
            if image.width * image.height > MOST_PIXELS:
                raise OSError(f"it has {image.width:,} x {image.height:,} pixels")
            return page.thumbnail(image, THUMBNAIL)
    except Exception as error:  # a damaged file can make Pillow raise nearly anything
        log.warning("Without its picture: %s (%s).", picture, " ".join(str(error).split())[:200])
        return ""


def _filters(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of a form that the script shows and listens to."""
    return [
        {
            "key": key,
            "title": COLUMNS[key][0],
            "choices": sorted({str(row[key]) for row in rows if row[key] is not None}),
        }
        for key in FILTERS
    ]
