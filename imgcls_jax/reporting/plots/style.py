"""The look of all figures: colours, sizes, axes, and how a figure becomes a file."""

import io
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from imgcls_jax.files import write_atomically

DPI = 110
NARROW = 3.75  # inches of a figure for a phone
POINTS_PER_PIXEL = 72 / DPI
PNG_COLOURS = 256

INK = "#2b2f36"
GREY = "#7b828d"
RULE = "#e4e7eb"
BLUE = "#3f72a6"
ORANGE = "#d9863d"
RED = "#b94a48"

# Keyword arguments of matplotlib's functions.
TITLE = {"loc": "left", "fontsize": 10.5, "color": INK, "fontweight": "bold"}
LABEL = {"fontsize": 9.5, "color": INK}
NUMBER = {"fontsize": 9, "color": INK}
LEGEND = {"frameon": False, "fontsize": 9, "labelcolor": INK}
DASHED = {"linewidth": 1, "linestyle": (0, (3, 3))}
GRID = {"color": RULE, "linewidth": 0.9}
CURVE_WIDTH = 1.8


def chart(width: float, height: float) -> Figure:
    """An empty figure for charts, whose sizes are in inches."""
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def tidy(axes: Axes) -> None:
    """Gives a chart its look: a bottom line, horizontal rules, no box."""
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GREY)
    axes.grid(axis="y", **GRID)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9, length=0, labelcolor=INK)


def end_at_percent(axes: Axes, which: str = "y") -> None:
    """Ends an axis of percentages, "x" or "y", within 0 and 100.

    It fixes the axis' limits, so everything has to be drawn before.
    """
    if which == "x":
        low, high = axes.get_xlim()
        axes.set_xlim(max(low, 0), min(high, 100))
    else:
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, 0), min(high, 100))


def marker_of(epochs: int) -> str | None:
    """The marker of a curve over that many epochs: a line of one point would not show."""
    return "o" if epochs < 2 else None


def rgb(colour: str) -> np.ndarray:
    """The colour, such as "#3f72a6", as red, green and blue from 0 to 1."""
    return np.frombuffer(bytes.fromhex(colour.removeprefix("#")), np.uint8) / 255


def save(figure: Figure, path: Path, *, exact: bool = False) -> None:
    """Writes the figure as a PNG; exact: as of `png`."""
    write_atomically(Path(path), png(figure, exact=exact))


def png(figure: Figure, *, exact: bool = False) -> bytes:
    """The figure as a PNG.

    exact: with all its colours, for figures that have gradual ones. Otherwise with 256 colours,
    which takes a third of the space and is hard to tell from the original.
    """
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # once; savefig would draw twice and encode what is to be quantized first
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    if not exact:
        image = image.quantize(PNG_COLOURS, method=Image.Quantize.MEDIANCUT)
    buffer = io.BytesIO()
    image.save(buffer, format="png", optimize=True)
    return buffer.getvalue()
