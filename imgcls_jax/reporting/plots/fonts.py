"""Names in figures: in any script, and shortened to the space there is.

matplotlib's own font lacks many scripts. Installed fonts that have the missing characters are added
to matplotlib's `font.family`, which texts and their measures use glyph by glyph.
"""

import bisect
import dataclasses
import functools
import logging
import textwrap
from collections.abc import Iterable, Sequence

from matplotlib import font_manager, rcParams
from matplotlib.ft2font import FT2Font
from matplotlib.textpath import TextPath

from imgcls_jax.data.dataset import Dataset
from imgcls_jax.reporting.plots import style

log = logging.getLogger(__name__)

UNKNOWN = "\N{REPLACEMENT CHARACTER}"
COMMON_WEIGHTS = (400, "normal", "regular", "book")
MOST_NAMED = 5  # names in the message about those that cannot be drawn


# Which characters can be drawn


def legible(names: Sequence[str]) -> list[str]:
    """Returns class names as figures show them.

    A name with characters that no installed font has becomes "class 3", its index from 0; a warning
    says which ones.
    """
    shown = list(names)
    lost = []
    for k, name in enumerate(names):
        if drawable(name) != name:
            shown[k] = f"class {k}"
            lost.append(k)
    if lost:
        _warn_of_lost([names[k] for k in lost], example=shown[lost[0]])
    return shown


def _warn_of_lost(names: Sequence[str], *, example: str) -> None:
    listed = ", ".join(names[:MOST_NAMED])
    if len(names) > MOST_NAMED:
        listed += ", ..."
    noun = "class name" if len(names) == 1 else "class names"
    log.warning(
        "No installed font has the characters of %s %s (%s): pictures show numbers instead, "
        "as in %r. With a font for them, such as Noto Sans CJK, imgcls report draws the names.",
        f"{len(names):,}",
        noun,
        listed,
        example,
    )


def with_legible_names(dataset: Dataset) -> Dataset:
    """Returns the data set with its class names as figures show them."""
    return dataclasses.replace(dataset, class_names=tuple(legible(dataset.class_names)))


@functools.lru_cache(4096)
def drawable(text: str) -> str:
    """Returns the text with a mark for each character that no installed font has."""
    _use_fonts_for(text)
    covered = _covered(tuple(rcParams["font.family"]))
    characters = []
    for character in text:
        can_be_drawn = character.isspace() or ord(character) in covered
        characters.append(character if can_be_drawn else UNKNOWN)
    return "".join(characters)


def _use_fonts_for(text: str) -> None:
    """Adds installed fonts until the text can be drawn, or none has more of its characters."""
    wanted = {ord(character) for character in text if not character.isspace()}
    missing = wanted - _covered(tuple(rcParams["font.family"]))
    while missing:
        files = _font_files()
        counts = {}
        for family, path in files.items():
            counts[family] = len(missing & _glyphs(path))
        family = max(counts, key=counts.get, default="")
        if not counts.get(family):
            return
        rcParams["font.family"] = [*rcParams["font.family"], family]
        # matplotlib would log a line for each weight that the font does not have.
        logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
        missing = wanted - _covered(tuple(rcParams["font.family"]))


@functools.cache
def _covered(families: tuple[str, ...]) -> frozenset[int]:
    """The code points that the fonts of these families have."""
    files = _font_files()
    paths = [files.get(family) or _default_file(family) for family in families]
    return frozenset().union(*map(_glyphs, paths))


def _default_file(family: str) -> str:
    """The font file that matplotlib chooses for a generic family such as "sans-serif"."""
    return font_manager.findfont(font_manager.FontProperties(family=[family]))


def _font_files() -> dict[str, str]:
    """The upright font file of each installed family, of common weight if there are several."""
    entries = [entry for entry in font_manager.fontManager.ttflist if entry.style == "normal"]
    entries.sort(key=lambda entry: (entry.weight in COMMON_WEIGHTS, entry.fname))
    return {entry.name: entry.fname for entry in entries}


@functools.cache
def _glyphs(path: str) -> frozenset[int]:
    """The code points of a font file; none of a file that is damaged or cannot be scaled."""
    try:
        font = FT2Font(path)
        code_points = frozenset(font.get_charmap())
    except (OSError, RuntimeError):
        return frozenset()
    if not font.scalable:
        return frozenset()
    return code_points


# How much space a text takes


def shorten(name: str, longest: int = 22) -> str:
    """Returns the name in at most `longest` characters, ready to be drawn.

    matplotlib's math mode is kept out of it, and characters that no font has become a mark.
    """
    name = drawable(name)
    if len(name) > longest:
        name = name[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return name.replace("$", r"\$")


def wrap(name: str, width: int) -> str:
    """Returns the whole name, ready to be drawn, in lines of at most `width` characters."""
    lines = textwrap.fill(name, width, break_on_hyphens=False)
    return shorten(lines, len(lines))


def fit(name: str, *, size: float, width: float) -> str:
    """Returns the name, shortened until it is at most `width` points wide at that font size."""
    whole = shorten(name, len(name))
    if text_width(whole, size) <= width:
        return whole

    def width_of(length: int) -> float:
        return text_width(shorten(name, length), size)

    longest = bisect.bisect(range(1, len(name)), width, key=width_of)
    return shorten(name, max(longest, 1))


@functools.lru_cache(4096)
def text_width(text: str, size: float) -> float:
    """Width of the text in points."""
    return TextPath((0, 0), text, size=size).get_extents().width


def widest(texts: Iterable[str], size: float) -> float:
    """Width of the widest of the texts in pixels."""
    return max(text_width(text, size) for text in texts) * style.DPI / 72
