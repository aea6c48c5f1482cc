"""Pieces of HTML for self-contained pages. Text given to these functions is escaped by them, markup is not."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imgcls_jax.errors import RunError
from imgcls_jax.run_folder import flat_options

if TYPE_CHECKING:
    from PIL.Image import Image


def page(title: str, body: str, *, styles: Sequence[str] = ("page.css",)) -> str:
    """A whole page around the markup `body`, with style sheets that lie beside this file."""
    css = "".join(Path(__file__).with_name(name).read_text() for name in styles)
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{css}</style>\n<body>\n{body}</body>\n</html>\n"
    )


def section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>\n{body}</section>\n"


def columns(*parts: str) -> str:
    """Markup side by side where there is room, below each other on a phone."""
    return '<div class="columns">' + "".join(f"<div>{part}</div>" for part in parts) + "</div>\n"


def chart(path: Path, description: str, *, images: bool = False) -> str:
    """The PNG at `path`; on a phone its text keeps a readable size, and it scrolls in its own box.

    images: it shows some, and keeps its colours on a dark page.
    """
    from PIL import Image

    try:
        with Image.open(path) as picture:
            width, height = picture.size
    except OSError as error:
        raise RunError(f"{path} cannot be read: give the command again that draws it.") from error
    kind = "chart images" if images else "chart"
    return (
        f'<div class="scroll"><img class="{kind}" alt="{escape(description)}" width="{width}" height="{height}" '
        f'style="min-width:{round(0.7 * width)}px" src="{_data_uri("png", path.read_bytes())}"></div>\n'
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]], foot: Sequence[str] = ()) -> str:
    """A table whose first column names the row and whose other columns hold figures."""

    def line(cells: Sequence[str]) -> str:
        figures = "".join(f'<td class="number">{escape(cell)}</td>' for cell in cells[1:])
        return f"<tr><th>{escape(cells[0])}</th>{figures}</tr>\n"

    heads = "".join(f"<th{' class=number' if n else ''}>{escape(name)}</th>" for n, name in enumerate(head))
    tall = " tall" if len(rows) > 24 else ""
    return (
        f'<div class="scroll{tall}"><table><thead><tr>{heads}</tr></thead>\n<tbody>\n{"".join(map(line, rows))}</tbody>'
        f"{f'<tfoot>{line(foot)}</tfoot>' if foot else ''}</table></div>\n"
    )


def facts(values: Mapping[str, Any]) -> str:
    """A table of names and values; what is nested is named by its path."""
    body = "".join(
        f"<tr><th>{escape(words(key))}</th><td>{escape(text(value))}</td></tr>\n"
        for key, value in flat_options(values).items()
    )
    return f'<div class="scroll"><table class="facts"><tbody>\n{body}</tbody></table></div>\n'


def image(pixels: np.ndarray, description: str, *, side: int) -> str:
    """The uint8 image [H, W, C], shrunk where its longer side is above `side`; the style sheet enlarges small ones."""
    from PIL import Image

    picture = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)
    photo = max(picture.size) > side
    buffer = io.BytesIO()
    if photo:
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
        picture.save(buffer, format="jpeg", quality=85)
    else:
        picture.save(buffer, format="png", optimize=True)
    source = _data_uri("jpeg" if photo else "png", buffer.getvalue())
    return f'<img class="{"photo" if photo else "pixels"}" alt="{escape(description)}" src="{source}">'


def thumbnail(picture: "Image", width: int) -> str:
    """The picture `width` pixels wide, as the source of an <img>."""
    buffer = io.BytesIO()
    small = picture.convert("RGB")
    small.thumbnail((width, width))
    small.save(buffer, format="jpeg", quality=70, optimize=True)
    return _data_uri("jpeg", buffer.getvalue())


def tiles(images: Sequence[np.ndarray], descriptions: Sequence[str], captions: Sequence[str], *, side: int) -> str:
    """Images of one shape beside and below each other, about `side` pixels long, each above its caption, in markup."""
    figures = "".join(
        f"<figure>{image(pixels, description, side=side)}<figcaption>{caption}</figcaption></figure>\n"
        for pixels, description, caption in zip(images, descriptions, captions, strict=True)
    )
    return f'<div class="tiles" style="--image:{image_width(images[0].shape, side=side)}px">\n{figures}</div>\n'


def image_rows(
    heads: Sequence[str], images: Sequence[np.ndarray], descriptions: Sequence[Sequence[str]], *, side: int
) -> str:
    """A table of rows of small images [n, H, W, C] of one shape, about `side` pixels long, behind heads in markup.

    images: an array a row, some of which may be empty; descriptions: of each image.
    """
    rows = []
    for head, pixels, texts in zip(heads, images, descriptions, strict=True):
        shown = "".join(image(each, text, side=side) for each, text in zip(pixels, texts, strict=True))
        rows.append(f"<tr><th>{head}</th><td><div>{shown}</div></td></tr>\n")
    width, tall = image_width(images[0].shape[1:], side=side), " tall" if len(rows) > 24 else ""
    return (
        f'<div class="scroll{tall}"><table class="samples" style="--image:{width}px">'
        f"<tbody>\n{''.join(rows)}</tbody></table></div>\n"
    )


def image_width(shape: Sequence[int], *, side: int) -> int:
    """Width to show images [H, W, C] at, the longer side at about `side` pixels; small images grow by whole factors."""
    longest = max(shape[:2])
    return round(shape[1] * (side / longest if longest > side else round(side / longest)))


def words(key: str) -> str:
    """A key of a JSON file as words."""
    return key.replace("_", " ")


def text(value: Any) -> str:
    """A value of a JSON file as a person writes it."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(text, value))
    return str(value)


def percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
