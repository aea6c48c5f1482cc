"""Fonts for names in any script: of those installed the ones that have what matplotlib's own lacks.

Importing this imports matplotlib, as plots.py does. What is found is added to matplotlib's `font.family`, where texts
and their measures take it from, glyph by glyph.
"""

import functools
import logging
from collections.abc import Sequence

from matplotlib import font_manager, rcParams
from matplotlib.ft2font import FT2Font

log = logging.getLogger(__name__)

UNKNOWN = "\N{REPLACEMENT CHARACTER}"
COMMON_WEIGHTS = (400, "normal", "regular", "book")
MOST_NAMED = 5  # names in the line that says which cannot be drawn


def legible(names: Sequence[str]) -> list[str]:
    """Class names as pictures show them: "class 3", by their place from 0, where no font has all their characters.

    Where there are such a line says so.
    """
    shown = [name if drawable(name) == name else f"class {k}" for k, name in enumerate(names)]
    lost = [name for name, text in zip(names, shown, strict=True) if name != text]
    if lost:
        log.warning(
            "No installed font has the characters of %s class name%s (%s%s): pictures show numbers instead, as in %r. "
            "With a font for them, such as Noto Sans CJK, imgcls report draws the names.",
            f"{len(lost):,}",
            "s" * (len(lost) > 1),
            ", ".join(lost[:MOST_NAMED]),
            ", ..." * (len(lost) > MOST_NAMED),
            shown[names.index(lost[0])],
        )
    return shown


@functools.lru_cache(4096)
def drawable(text: str) -> str:
    """The text with a mark in the place of each character that no installed font has."""
    _find(text)
    known = _known(tuple(rcParams["font.family"]))
    return "".join(
        character if character.isspace() or ord(character) in known else UNKNOWN
        for character in text
    )


def _find(text: str) -> None:
    """Puts installed fonts into use that have the text's characters, where those in use lack some."""
    wanted = {ord(character) for character in text if not character.isspace()}
    while missing := wanted - _known(tuple(rcParams["font.family"])):
        family = max(
            files := _files(), key=lambda family: len(missing & _glyphs(files[family])), default=""
        )
        if not family or not missing & _glyphs(files[family]):
            return
        rcParams["font.family"] = [*rcParams["font.family"], family]
        logging.getLogger("matplotlib.font_manager").setLevel(
            logging.ERROR
        )  # it tells of each weight that is not there


@functools.cache
def _known(families: tuple[str, ...]) -> frozenset[int]:
    """The code points that the fonts of these families have, the first of which is matplotlib's own."""
    files = _files()
    paths = (files.get(family) or _path(family) for family in families)
    return frozenset().union(*map(_glyphs, paths))


def _path(family: str) -> str:
    """The file of a family's font, also of one such as "sans-serif", which matplotlib chooses."""
    return font_manager.findfont(font_manager.FontProperties(family=[family]))


def _files() -> dict[str, str]:
    """The upright font of each installed family, the one of common weight where there are several."""
    entries = [entry for entry in font_manager.fontManager.ttflist if entry.style == "normal"]
    entries.sort(key=lambda entry: (entry.weight in COMMON_WEIGHTS, entry.fname))
    return {entry.name: entry.fname for entry in entries}


@functools.cache
def _glyphs(path: str) -> frozenset[int]:
    try:
        font = FT2Font(path)
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    except (OSError, RuntimeError):  # a damaged font, or of a kind that cannot be drawn
        return frozenset()
