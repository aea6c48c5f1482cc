"""Self-contained pages: a whole page, and the pieces that sections are made of."""

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from imgcls_jax.config.options import flat_options
from imgcls_jax.errors import RunError
from imgcls_jax.foreign import open_image
from imgcls_jax.reporting import formats, templates

if TYPE_CHECKING:
    from PIL.Image import Image

FOLDER = Path(__file__).parent
# What a page may load and run: pictures that are in it, and the script whose hash is added.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
SORTING = "sort.js"  # the script that lets the reader sort tables
NARROWEST = 0.7  # of a chart's width, below which it scrolls instead of shrinking


def page(
    title: str,
    body: Markup,
    *,
    styles: Sequence[str] = ("page.css",),
    script: str = "",
) -> str:
    """Returns a whole page around the body.

    styles: names of style sheets beside this file. script: the one at the end; no other runs.
    """
    policy = POLICY
    if script:
        digest = hashlib.sha256(script.encode()).digest()
        policy += f"; script-src 'sha256-{base64.b64encode(digest).decode()}'"
    css = "".join((FOLDER / name).read_text() for name in styles)
    return templates.render(
        "page.html",
        title=title,
        policy=policy,
        css=Markup(css),
        body=body,
        script=Markup(script),
    )


def scripts(*names: str) -> str:
    """The scripts of these names beside this file, as one."""
    return "".join((FOLDER / name).read_text() for name in names)


# Text


def section(title: str, *parts: Markup | str) -> Markup:
    return _parts().section(title, Markup().join(parts))


def columns(*parts: Markup) -> Markup:
    """Side by side if there is room, below each other on a phone."""
    return _parts().columns(parts)


def note(text: str) -> Markup:
    """A paragraph in small type."""
    return _parts().note(text)


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    foot: Sequence[str] = (),
    *,
    sorted_by: str = "",
) -> Markup:
    """A table whose first column names the row and whose other columns hold figures.

    sorted_by: the column by which the rows are sorted, lowest first. SORTING lets the reader sort
    such a table by any other.
    """
    return _parts().table(head, rows, foot, sorted_by)


def facts(values: Mapping[str, Any]) -> Markup:
    """A table of names and values; nested ones are named by their path."""
    rows = []
    for key, value in flat_options(values).items():
        rows.append((formats.words(key), formats.text(value)))
    return _parts().facts(rows)


def taken_for(true: str, predicted: str, *, is_wrong: bool = True) -> Markup:
    """A true class and the predicted one, which is red if it is wrong."""
    return _parts().taken_for(true, predicted, is_wrong)


# Images


def chart(
    path: Path,
    description: str,
    *,
    narrow: bytes = b"",
    images: bool = False,
) -> Markup:
    """The PNG at `path`, and on a phone the narrow one, if there is one.

    Without it the chart's text keeps a readable size on a phone, and it scrolls in its own box.

    narrow: a PNG of the same about as wide as a phone. images: it shows images, and keeps its
    colours on a dark page. Raises RunError if the chart cannot be read.
    """
    try:
        with open_image(path, ("PNG",)):  # refuses what is no regular file
            wide_chart = _picture(path.read_bytes())
    except Exception as error:  # a damaged file can make Pillow raise nearly anything
        raise RunError(f"{path} cannot be read: run the command that draws it again.") from error
    return _parts().chart(
        wide=wide_chart,
        narrow=_picture(narrow) if narrow else None,
        description=description,
        narrowest=round(NARROWEST * wide_chart["width"]),
        images=images,
    )


def _picture(png: bytes) -> dict[str, Any]:
    """Source, width and height of a PNG."""
    with open_image(io.BytesIO(png), ("PNG",)) as picture:
        width, height = picture.size
    return {"source": data_uri("png", png), "width": width, "height": height}


def image(pixels: np.ndarray, description: str, *, side: int) -> Markup:
    """The image uint8 [H, W, C], shrunk if its longer side is above `side` pixels.

    The style sheet enlarges small ones.
    """
    from PIL import Image

    if pixels.shape[-1] == 1:
        pixels = pixels.squeeze(-1)
    picture = Image.fromarray(pixels)
    buffer = io.BytesIO()
    if max(picture.size) > side:
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
        picture.save(buffer, format="jpeg", quality=85)
        source = data_uri("jpeg", buffer.getvalue())
        return _parts().image("photo", description, source)
    picture.save(buffer, format="png", optimize=True)
    source = data_uri("png", buffer.getvalue())
    return _parts().image("pixels", description, source)


def thumbnail(picture: "Image", width: int) -> str:
    """The picture `width` pixels wide, as the source of an <img>."""
    buffer = io.BytesIO()
    small = picture.convert("RGB")
    small.thumbnail((width, width))
    small.save(buffer, format="jpeg", quality=70, optimize=True)
    return data_uri("jpeg", buffer.getvalue())


def tiles(
    images: Sequence[np.ndarray],
    descriptions: Sequence[str],
    captions: Sequence[Markup],
    *,
    side: int,
) -> Markup:
    """Images of one shape in a grid, about `side` pixels long, each above its caption."""
    width = image_width(images[0].shape, side=side)
    figures = []
    for pixels, description, caption in zip(images, descriptions, captions, strict=True):
        figures.append((image(pixels, description, side=side), caption))
    return _parts().tiles(width, figures)


def image_rows(
    heads: Sequence[str | Markup],
    images: Sequence[np.ndarray],
    *,
    descriptions: Sequence[Sequence[str]],
    side: int,
) -> Markup:
    """A table of rows of small images of one shape, about `side` pixels long, each with its head.

    images: uint8 [n, H, W, C] for each row, some of which may be empty. descriptions: of each image.
    """
    width = image_width(images[0].shape[1:], side=side)
    rows = []
    for head, row_images, row_descriptions in zip(heads, images, descriptions, strict=True):
        row = []
        for pixels, description in zip(row_images, row_descriptions, strict=True):
            row.append(image(pixels, description, side=side))
        rows.append((head, row))
    return _parts().image_rows(width, rows)


def class_images(
    classes: Sequence[Mapping[str, Any]],
    *,
    shape: Sequence[int],
    side: int,
) -> Markup:
    """A grid of classes, each with its name, a note and a few small images.

    classes: name, note, and images as (image uint8 [H, W, C], description, whether it is wrong).
    shape: [H, W, C], of all images, which become about `side` pixels long.
    """
    cells = []
    for row in classes:
        figures = []
        for pixels, description, is_wrong in row["images"]:
            figures.append((image(pixels, description, side=side), is_wrong))
        cells.append({"name": row["name"], "note": row["note"], "images": figures})
    return _parts().class_images(image_width(shape, side=side), cells)


def image_width(shape: Sequence[int], *, side: int) -> int:
    """Width in pixels to show an image [H, W, C] at, its longer side being about `side` long.

    Small images grow by whole factors.
    """
    longest = max(shape[:2])
    if longest > side:
        return round(shape[1] * (side / longest))
    return shape[1] * round(side / longest)


def _parts() -> Any:
    return templates.macros("parts.html")


def data_uri(kind: str, content: bytes) -> str:
    """The content of a picture's file as the source of an <img>. kind: "png" or "jpeg"."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
