"""The index of a folder of runs: one static page with a table to sort and filter, and a link to each run's page."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from imgcls_jax.errors import RunError
from imgcls_jax.reporting import page
from imgcls_jax.run_folder import CONFIG, ENSEMBLE, REPORT, RunFolder, write_atomically

log = logging.getLogger(__name__)

INDEX = "index.html"
THUMBNAIL = 160  # pixels of its width
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
        raise RunError(f"There is no finished run below {folder}: no folder with {CONFIG} and {REPORT}.")
    name = folder.resolve().name
    count = f"{len(rows):,} finished run{'s' * (len(rows) != 1)}"
    body = (
        f'<header><h1>{escape(name)}</h1>\n<p class="lead">{count}. Accuracy and loss are of the test set, time is of '
        "training alone. Each name leads to the page of its run.</p></header>\n"
        f"{_filters([found for _, found in rows])}{_table(folder, rows)}"
        f"<script>\n{Path(__file__).with_name('index.js').read_text()}</script>\n"
    )
    write_atomically(folder / INDEX, page.page(f"Runs: {name}", body, styles=("page.css", "index.css")).encode())
    return folder / INDEX


def facts(folder: Path, path: Path) -> dict[str, Any]:
    """What the table says of the run or the ensemble in `path` below `folder`, by the keys of COLUMNS; None: unknown.

    Raises RunError where a file of it is missing or damaged.
    """
    run, parent = RunFolder(path), path.relative_to(folder).parent
    if (path / ENSEMBLE).exists():
        found = run.read_json(ENSEMBLE)
        members = [member["parameters"] for member in found["members"] if member["weight"]]
        test = found["test"] | {"parameters": sum(members)}
        known = {"model": f"ensemble of {len(members)}"}
    else:
        test, config = run.test, run.config
        data = config.data.get("name") or config.data.source
        known = {"data": data, "model": config.model.name, "seed": config.seed}
        known |= {"device": run.environment.get("device"), "trainable": test["parameters"]}
    known |= {"study": parent.as_posix() if parent.name else None}
    return {key: (known | test).get(key) for key in COLUMNS}


def _finished(folder: Path) -> Iterator[Path]:
    """The folders of finished runs and ensembles, in the order of their names; none of them lies in another."""
    for path, inner, files in os.walk(folder):
        inner.sort()
        if CONFIG in files or ENSEMBLE in files:
            inner.clear()
            if REPORT in files:
                yield Path(path)


def _table(folder: Path, rows: Sequence[tuple[Path, Mapping[str, Any]]]) -> str:
    heads = "".join(
        f'<th scope="col" data-key="{key}"{" class=number" if form else ""}>{title}</th>'
        for key, (title, form) in COLUMNS.items()
    )
    return (
        '<table class="runs"><thead><tr><td></td><th scope="col" data-key="name">Name</th>'
        f"{heads}</tr></thead>\n<tbody>\n{''.join(_row(folder, *row) for row in rows)}</tbody></table>\n"
    )


def _row(folder: Path, path: Path, found: Mapping[str, Any]) -> str:
    link = quote((path.relative_to(folder) / REPORT).as_posix())
    cells = []
    for key, (title, form) in COLUMNS.items():
        value = found[key]
        text = UNKNOWN if value is None else form(value) if form else str(value)
        figure = f' class="number" data-value="{"" if value is None else value}"' if form else ""
        cells.append(f'<td data-title="{title}"{figure}>{_breakable(text)}</td>')
    return (
        f'<tr><td class="picture">{_thumbnail(path, link)}</td>'
        f'<th scope="row"><a href="{link}">{_breakable(path.resolve().name)}</a></th>{"".join(cells)}</tr>\n'
    )


def _breakable(text: str) -> str:
    """The text, escaped, which may break after each underscore."""
    return escape(text).replace("_", "_<wbr>")


def _thumbnail(path: Path, link: str) -> str:
    """A small dashboard, which links where the name does; nothing where there is no picture."""
    from PIL import Image

    picture = path / ("ensemble.png" if (path / ENSEMBLE).exists() else "dashboard.png")
    try:
        with Image.open(picture) as image:
            source = page.thumbnail(image, THUMBNAIL)
    except OSError:  # not there, or not a picture
        return ""
    return f'<a href="{link}" tabindex="-1" aria-hidden="true"><img alt="" loading="lazy" src="{source}"></a>'


def _filters(rows: Sequence[Mapping[str, Any]]) -> str:
    """A form that the script shows and listens to."""
    selects = []
    for key in FILTERS:
        values = sorted({str(row[key]) for row in rows if row[key] is not None})
        options = "".join(f"<option>{escape(value)}</option>" for value in values)
        title = COLUMNS[key][0]
        selects.append(f'<label>{title}<select name="{key}"><option value="">all</option>{options}</select></label>')
    return (
        '<form class="filters" hidden><label>Search<input type="search" name="text" autocomplete="off"></label>'
        f'{"".join(selects)}<output aria-live="polite"></output></form>\n'
    )
