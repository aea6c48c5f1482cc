"""Figures of images that keep their pixels, laid out in pixels."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from imgcls_jax.data.dataset import Dataset
from imgcls_jax.reporting.plots import fonts, style

CAPTION_SIZE = 8.5  # points
CAPTION_LINE = 16  # pixels from one line of a caption to the next
MOST_WIDTH = 1000  # pixels of a row of captioned images


class Canvas:
    """A figure laid out in pixels from its upper left corner; images on it are not resampled."""

    def __init__(self, *, width: float, height: float):
        self.width = round(width)
        self.height = round(height)
        inches = (self.width / style.DPI, self.height / style.DPI)
        self._figure = Figure(figsize=inches, dpi=style.DPI, facecolor="white")
        self._pixels = np.full((self.height, self.width, 3), 255, np.uint8)

    def image(self, x: float, y: float, rgb: np.ndarray) -> None:
        """Draws the image, uint8 [H, W, 3], with its upper left corner at (x, y)."""
        top = round(y)
        left = round(x)
        height, width = rgb.shape[:2]
        self._pixels[top : top + height, left : left + width] = rgb

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float,
        colour: str = style.INK,
        **alignment: str,
    ) -> None:
        """Writes the text at (x, y); alignment: arguments of matplotlib's text, such as ha."""
        right = x / self.width
        up = 1 - y / self.height
        self._figure.text(
            right,
            up,
            text,
            fontsize=size,
            color=colour,
            **alignment,
        )

    def figure(self) -> Figure:
        axes = self._figure.add_axes((0, 0, 1, 1), frameon=False)
        axes.set_axis_off()
        axes.imshow(self._pixels, interpolation="nearest", aspect="auto")
        return self._figure


def tile(image: np.ndarray, side: int) -> np.ndarray:
    """Returns the image as uint8 RGB, its longer side about `side` pixels long.

    image: uint8 [H, W, C]. A small one is enlarged by a whole factor, a large one is shrunk to fit.
    """
    rgb = np.broadcast_to(image, (*image.shape[:2], 3))
    longest = max(image.shape[:2])
    if longest > side:
        small = Image.fromarray(np.ascontiguousarray(rgb))
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        return np.asarray(small)
    factor = round(side / longest)
    return rgb.repeat(factor, axis=0).repeat(factor, axis=1)


def tile_shape(dataset: Dataset, side: int) -> tuple[int, int]:
    """Height and width of the data set's images as tiles."""
    blank = np.zeros(dataset.images.shape[1:], np.uint8)
    return tile(blank, side).shape[:2]


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of a caption."""

    text: str
    colour: str


def captioned(
    images: Sequence[np.ndarray],
    captions: Sequence[Sequence[Line]],
    *,
    side: int,
) -> Figure:
    """Images, each above the two lines of its caption.

    images: uint8 [H, W, C], all of one shape; their longer sides become about `side` pixels long.
    """
    tiles = [tile(image, side) for image in images]
    tile_height, tile_width = tiles[0].shape[:2]
    space = 20
    margin = 12
    texts = [line.text for lines in captions for line in lines]
    cell_width = max(tile_width, fonts.widest(texts, CAPTION_SIZE)) + space
    cell_height = tile_height + 52
    columns = min(len(tiles), max(int(MOST_WIDTH // cell_width), 1))
    rows = -(-len(tiles) // columns)
    canvas = Canvas(
        width=2 * margin + columns * cell_width - space,
        height=2 * margin + rows * cell_height - 14,
    )
    for n, (pixels, lines) in enumerate(zip(tiles, captions, strict=True)):
        row, column = divmod(n, columns)
        x = margin + column * cell_width
        y = margin + row * cell_height
        canvas.image(x, y, pixels)
        for number, line in enumerate(lines, 1):
            baseline = y + tile_height + CAPTION_LINE * number
            canvas.text(
                x,
                baseline,
                line.text,
                size=CAPTION_SIZE,
                colour=line.colour,
            )
    return canvas.figure()
