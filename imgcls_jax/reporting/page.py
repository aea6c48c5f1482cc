"""Self-contained pages: pieces of them, from the templates beside this file, by Jinja.

Text given to these functions is escaped by the templates, whatever it is. What is markup already is of the type Markup,
which only templates make: text that was put together by hand is shown as it is.
"""

import base64
import functools
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
from markupsafe import Markup

from imgcls_jax.config.options import flat_options
from imgcls_jax.errors import RunError
from imgcls_jax.foreign import open_image

if TYPE_CHECKING:
    from PIL.Image import Image

FOLDER = Path(__file__).parent
# What a page may load and run: pictures that are in it, and the script of ours whose hash is added.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, **values: Any) -> Markup:
    """What a template makes of the values, which it escapes."""
    return Markup(_environment().get_template(template).render(values))


@functools.cache
def macros(template: str) -> Any:
    """The macros of a template, each a function that gives Markup and escapes what it is given."""
    return _environment().get_template(template).module


def page(
    title: str, body: Markup, *, styles: Sequence[str] = ("page.css",), script: str = ""
) -> str:
    """A whole page around the body, with style sheets that are beside this file.

    script: the one that the body has; no other runs.
    """
    policy = POLICY
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        policy += f"; script-src 'sha256-{digest}'"
    css = Markup("".join((FOLDER / name).read_text() for name in styles))
    return render("page.html", title=title, policy=policy, css=css, body=body)


def section(title: str, *parts: Markup | str) -> Markup:
    return macros("parts.html").section(title, Markup().join(parts))


def columns(*parts: Markup) -> Markup:
    """Side by side where there is room, below each other on a phone."""
    return macros("parts.html").columns(parts)


def chart(path: Path, description: str, *, images: bool = False) -> Markup:
    """The PNG at `path`; on a phone its text keeps a readable size, and it scrolls in its own box.

    images: it shows some, and keeps its colours on a dark page.
    """
    try:
        with open_image(path, ("PNG",)) as picture:
            width, height = picture.size
        content = path.read_bytes()
    except Exception as error:  # a damaged file can make Pillow raise nearly anything
        raise RunError(f"{path} cannot be read: give the command again that draws it.") from error
    picture = {"kind": "chart images" if images else "chart", "source": _data_uri("png", content)}
    picture |= {"width": width, "height": height, "narrowest": round(0.7 * width)}
    return macros("parts.html").chart(picture, description)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], foot: Sequence[str] = ()) -> Markup:
    """A table whose first column names the row and whose other columns hold figures."""
    return macros("parts.html").table(head, rows, foot)


def facts(values: Mapping[str, Any]) -> Markup:
    """A table of names and values; what is nested is named by its path."""
    return macros("parts.html").facts(
        [(words(key), text(value)) for key, value in flat_options(values).items()]
    )


def taken_for(true: str, predicted: str, *, wrong: bool = True) -> Markup:
    """A true class and the one that is predicted, which is red where it is wrong."""
    return macros("parts.html").taken_for(true, predicted, "wrong" if wrong else "")


def image(pixels: np.ndarray, description: str, *, side: int) -> Markup:
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
    return macros("parts.html").image(
        {"kind": "photo" if photo else "pixels", "source": source}, description
    )


def thumbnail(picture: "Image", width: int) -> str:
    """The picture `width` pixels wide, as the source of an <img>."""
    buffer = io.BytesIO()
    small = picture.convert("RGB")
    small.thumbnail((width, width))
    small.save(buffer, format="jpeg", quality=70, optimize=True)
    return _data_uri("jpeg", buffer.getvalue())


def tiles(
    images: Sequence[np.ndarray],
    descriptions: Sequence[str],
    captions: Sequence[Markup],
    *,
    side: int,
) -> Markup:
    """Images of one shape beside and below each other, about `side` pixels long, each above its caption."""
    shown = [
        image(pixels, words, side=side) for pixels, words in zip(images, descriptions, strict=True)
    ]
    return macros("parts.html").tiles(image_width(images[0].shape, side=side), shown, captions)


def image_rows(
    heads: Sequence[str | Markup],
    images: Sequence[np.ndarray],
    descriptions: Sequence[Sequence[str]],
    *,
    side: int,
) -> Markup:
    """A table of rows of small images [n, H, W, C] of one shape, about `side` pixels long, behind heads.

    images: an array a row, some of which may be empty; descriptions: of each image.
    """
    rows = [
        [image(each, text, side=side) for each, text in zip(pixels, texts, strict=True)]
        for pixels, texts in zip(images, descriptions, strict=True)
    ]
    return macros("parts.html").image_rows(image_width(images[0].shape[1:], side=side), heads, rows)


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
