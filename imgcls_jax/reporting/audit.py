"""The files of an audit: its page with the images, corrections.csv, and audit.json."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from imgcls_jax import backend
from imgcls_jax.data import Source
from imgcls_jax.errors import RunError, printable
from imgcls_jax.evaluation import audit as auditing
from imgcls_jax.evaluation.audit import Audit
from imgcls_jax.files import write_atomically
from imgcls_jax.reporting import formats, page, templates
from imgcls_jax.run.folder import CORRECTIONS

PAGE = "audit.html"
FIGURES = "audit.json"
COLUMNS = ("split", "index", "new_label", "label", "image", "reason", "score")
MOST_SHOWN = 60  # images of a section
MOST_GROUPS = 24
MOST_IN_GROUP = 8
MOST_PAIRS = 20  # of classes
SIDE = 96  # pixels on the page of an image's longer side, about

Broken = Mapping[Path, str]  # files that cannot be read, with the reasons


def write(
    folder: Path, audit: Audit, source: Source, *, title: str, features: str, broken: Broken
) -> None:
    """Writes audit.html, corrections.csv and audit.json of an audit into the folder.

    title: of the page. features: what the vectors are, in words. broken: as of `read_readable`.
    Raises RunError if other corrections are there.
    """
    rows = auditing.correction_rows(audit.examples, auditing.suggest(audit), source)
    corrections = _csv(rows).encode()
    _check_replaceable(folder / CORRECTIONS, corrections)
    write_atomically(folder / CORRECTIONS, corrections)
    details = auditing.summary(audit)
    details["features"] = features
    details["unreadable"] = {str(path): reason for path, reason in broken.items()}
    details["peak_memory"] = backend.peak_memory()
    write_atomically(folder / FIGURES, (json.dumps(details, indent=1) + "\n").encode())
    option = f"--config.data.corrections={folder / CORRECTIONS}"
    parts = templates.macros("audit.html")
    num_rows = formats.quantity(len(rows), "line")
    sections = [
        parts.header(title, lead(audit, features), _figures(audit, broken)),
        page.section("Corrections", parts.next_step(option, num_rows)),
        *_sections(audit, broken),
        page.section("How it was computed", page.facts(_facts(audit, details))),
    ]
    html = page.page(f"Audit of {title}", Markup().join(sections))
    write_atomically(folder / PAGE, html.encode())


def _check_replaceable(file: Path, content: bytes) -> None:
    """Raises RunError if there is a file with other content, which may be a person's work."""
    if file.exists() and file.read_bytes() != content:
        raise RunError(
            f"{file} has other corrections: it was edited, or is of another audit. Give another "
            "--workdir, or remove it."
        )


def _csv(rows: Iterable[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def lead(audit: Audit, features: str) -> str:
    """A sentence on what was looked at, and how well the labels can be predicted."""
    sizes = []
    for split, dataset in audit.examples.datasets.items():
        sizes.append(f"{formats.quantity(len(dataset), 'image')} of {split}")
    return (
        f"{', '.join(sizes)}. A linear classifier on {features}, fitted to four fifths of the "
        f"images, gives {formats.percent(audit.accuracy)} of the others their label."
    )


def _figures(audit: Audit, broken: Broken) -> list[tuple[str, str]]:
    counts = auditing.counts(audit, broken)
    return [(formats.title(name), f"{count:,}") for name, count in counts.items()]


def _facts(audit: Audit, details: Mapping[str, Any]) -> dict[str, Any]:
    facts = {"vectors": details["features"]}
    for name, seconds in audit.seconds.items():
        facts[f"time of {name}"] = formats.duration(seconds)
    facts["peak memory"] = f"{details['peak_memory'] / 1e9:.1f} GB"
    return facts


def _sections(audit: Audit, broken: Broken) -> list[Markup]:
    """The sections of all that was found."""
    sections = [
        ("Suspected label errors", _label_errors(audit)),
        ("Exact copies", _copies(audit)),
        ("Near duplicates", _near_duplicates(audit)),
        ("Outliers", _outliers(audit)),
        ("Blank images", _blank(audit)),
        ("Unreadable files", _broken(broken)),
        ("Classes that are hard to tell apart", _pairs(audit)),
    ]
    return [page.section(title, content) for title, content in sections if content]


def _label_errors(audit: Audit) -> Markup | None:
    parts = templates.macros("audit.html")
    shown = audit.label_errors[:MOST_SHOWN]
    captions = []
    for example in shown:
        probability = formats.confidence(audit.probabilities[example].max())
        captions.append(
            parts.error_caption(
                audit.examples.label(example),
                audit.guess(example),
                probability,
                _place(audit, example),
            )
        )
    text = (
        "Label \N{RIGHTWARDS ARROW} what it probably should be, with its probability, and the "
        f"image's split and index; {_of(len(shown), len(audit.label_errors))}, most suspicious "
        "first. Not all of them are errors: look at each."
    )
    return _tiles(audit, shown, captions, text=text)


def _outliers(audit: Audit) -> Markup | None:
    shown = audit.outliers[:MOST_SHOWN]
    text = (
        f"Images that are far from all others; {_of(len(shown), len(audit.outliers))}, the "
        "farthest first. They may be of none of the classes, or rare and right."
    )
    return _tiles(audit, shown, _captions(audit, shown), text=text)


def _blank(audit: Audit) -> Markup | None:
    shown = audit.blank[:MOST_SHOWN]
    text = f"Images of nearly one colour; {_of(len(shown), len(audit.blank))}."
    return _tiles(audit, shown, _captions(audit, shown), text=text)


def _captions(audit: Audit, shown: np.ndarray) -> list[Markup]:
    parts = templates.macros("audit.html")
    captions = []
    for example in shown:
        captions.append(parts.caption(audit.examples.label(example), _place(audit, example)))
    return captions


def _tiles(
    audit: Audit, shown: np.ndarray, captions: Sequence[Markup], *, text: str
) -> Markup | None:
    if not len(shown):
        return None
    images = [audit.examples.image(example) for example in shown]
    names = [audit.examples.label(example) for example in shown]
    tiles = page.tiles(images, names, captions, side=SIDE)
    return templates.macros("audit.html").explained(text, tiles)


def _copies(audit: Audit) -> Markup | None:
    groups = audit.copies[:MOST_GROUPS]
    text = (
        f"Groups of images with the same pixels; {_of(len(groups), len(audit.copies))}, the "
        "largest first."
    )
    return _groups(audit, groups, text=text)


def _near_duplicates(audit: Audit) -> Markup | None:
    pairs = audit.near_duplicates[:MOST_GROUPS]
    groups = [np.array([first, second]) for first, second, _ in pairs]
    across = 0
    for first, second, _ in audit.near_duplicates:
        across += audit.examples.split[first] != audit.examples.split[second]
    text = (
        "Pairs that are at most half as far from each other as from their tenth neighbour; "
        f"{_of(len(pairs), len(audit.near_duplicates))}, the nearest first. {across:,} are in two "
        "splits."
    )
    return _groups(audit, groups, text=text)


def _groups(audit: Audit, groups: Sequence[np.ndarray], *, text: str) -> Markup | None:
    """A row of images for each group, with their labels and places."""
    if not groups:
        return None
    parts = templates.macros("audit.html")
    heads = []
    images = []
    descriptions = []
    for group in groups:
        shown = group[:MOST_IN_GROUP]
        names = [audit.examples.label(example) for example in shown]
        places = [_place(audit, example) for example in shown]
        title = " / ".join(dict.fromkeys(names))
        if len(group) > len(shown):
            title = f"{title}, {len(group):,} images"
        heads.append(parts.group_head(title, places))
        images.append(np.stack([audit.examples.image(example) for example in shown]))
        descriptions.append(names)
    rows = page.image_rows(heads, images, descriptions=descriptions, side=SIDE)
    return parts.explained(text, rows)


def _broken(broken: Broken) -> Markup | None:
    if not broken:
        return None
    parts = templates.macros("audit.html")
    text = "Training refuses them: repair or remove them. They are not part of this audit."
    files = []
    for path, reason in sorted(broken.items()):
        files.append((printable(path), printable(reason)))
    return parts.explained(text, parts.files(files))


def _pairs(audit: Audit) -> Markup | None:
    if not audit.pairs:
        return None
    names = audit.examples.class_names
    rows = []
    for first, second, share in audit.pairs[:MOST_PAIRS]:
        rows.append([f"{names[first]} / {names[second]}", formats.percentage(share)])
    table = page.table(["Classes", "Told apart, %"], rows)
    text = (
        "Of the images of two classes, the share for which the right one of the two is more "
        f"probable; 50 % is chance. Below {100 * auditing.CONFUSED:.0f} % the classes cannot be "
        "told apart by these vectors: join them, or define their labels more clearly."
    )
    return templates.macros("audit.html").explained(text, table)


def _place(audit: Audit, example: int) -> str:
    return f"{audit.examples.split[example]} {audit.examples.index[example]:,}"


def _of(shown: int, total: int) -> str:
    if shown == total:
        return f"all {total:,}"
    return f"the first {shown:,} of {total:,}"
