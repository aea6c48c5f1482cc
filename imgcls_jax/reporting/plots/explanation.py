"""What a run looks at as a figure: images beside the maps of evaluation/gradcam.py."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from imgcls_jax.data.dataset import Dataset
from imgcls_jax.evaluation.gradcam import GROUPS, NUM_RIGHT, NUM_WRONG
from imgcls_jax.reporting import formats
from imgcls_jax.reporting.plots import fonts, style
from imgcls_jax.reporting.plots.canvas import CAPTION_LINE, CAPTION_SIZE, Canvas, tile, tile_shape

# Pixels of an image's longer side in the figure: at least about SMALL, at most LARGE.
SMALL = 96
LARGE = 128
# A percentile of a map, from which on its colour is the brightest: saliency has single bright pixels.
BRIGHTEST = 99
OPACITY = (0.2, 0.8)  # of the colours, at a map's 0 and at its brightest

# Layout in pixels.
MARGIN = 10
GAP = 4  # between an image and its maps
SPACE = 14  # between examples
HEADING = 30

Example = Mapping[str, Any]  # of explain.json


@dataclasses.dataclass(frozen=True)
class _Row:
    """Examples of one group side by side, each with its maps float32 [2, H, W]."""

    title: str
    examples: Sequence[tuple[Example, np.ndarray]]
    columns: int
    caption: int  # pixels of its height


def draw(test: Dataset, examples: Sequence[Example], *, maps: np.ndarray) -> Figure:
    """Images beside the maps of the predicted and, of wrong ones, of the true class.

    examples: as in explain.json. maps: float32 [examples, 2, H, W], of these two classes.
    """
    longest = max(test.images.shape[1:3])
    side = int(np.clip(longest, SMALL, LARGE))
    height, width = tile_shape(test, side)
    step = width + GAP
    right_width = NUM_RIGHT * (2 * step + SPACE)
    wrong_width = NUM_WRONG * (3 * step + SPACE)
    inner = max(right_width, wrong_width) - SPACE - GAP
    pairs = list(zip(examples, maps, strict=True))
    rows = list(_rows(pairs))
    total = sum(HEADING + height + row.caption for row in rows)
    canvas = Canvas(width=2 * MARGIN + inner, height=2 * MARGIN + total)
    _scale(canvas, right=MARGIN + inner, y=MARGIN)

    top = MARGIN
    for row in rows:
        canvas.text(
            MARGIN,
            top + HEADING - 10,
            row.title,
            size=10,
            va="baseline",
            weight="bold",
        )
        image_top = top + HEADING
        for column, (example, example_maps) in enumerate(row.examples):
            left = MARGIN + column * (inner + SPACE) / row.columns
            tiles = _tiles(test.images[example["index"]], example, example_maps)
            for k, pixels in enumerate(tiles):
                canvas.image(left + k * step, image_top, tile(pixels, side))
            y = image_top + height + CAPTION_LINE
            _caption(
                canvas,
                (left, y),
                example,
                names=test.class_names,
                step=step,
            )
        top += HEADING + height + row.caption
    return canvas.figure()


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Returns the image in grey under the map in colours, uint8 [H, W, 3].

    image: uint8 [H, W, C]. heat: the map [H, W], of which 0 and the brightest set the scale.
    """
    brightest = np.percentile(heat, BRIGHTEST) or heat.max() or 1
    heat = np.clip(heat / brightest, 0, 1)
    grey = image.mean(-1, keepdims=True) / 255
    opacity = np.interp(heat, (0, 1), OPACITY)[..., None]
    blend = (1 - opacity) * grey + opacity * _colours(heat)
    return (255 * blend).round().astype(np.uint8)


def _colours(heat: np.ndarray) -> np.ndarray:
    """RGB from 0 to 1 of values from 0 to 1."""
    return colormaps["inferno"](heat)[..., :3]


def _is_right(example: Example) -> bool:
    return example["label"] == example["prediction"]


def _rows(examples: Sequence[tuple[Example, np.ndarray]]) -> Iterator[_Row]:
    """The rows that have examples: the groups of the right ones, then those of the wrong ones."""
    for title, is_right, columns, caption in (
        ("Right", True, NUM_RIGHT, 34),
        ("Wrong", False, NUM_WRONG, 50),
    ):
        for group in GROUPS:
            chosen = []
            for example, maps in examples:
                if example["group"] == group and _is_right(example) == is_right:
                    chosen.append((example, maps))
            if chosen:
                yield _Row(f"{title}, {group}", chosen, columns, caption)


def _tiles(image: np.ndarray, example: Example, maps: np.ndarray) -> list[np.ndarray]:
    """The image, the map of the predicted class and, of a wrong one, that of the true class."""
    of_predicted, of_true = maps
    tiles = [image, overlay(image, of_predicted)]
    if not _is_right(example):
        tiles.append(overlay(image, of_true))
    return tiles


def _caption(
    canvas: Canvas,
    place: tuple[float, float],
    example: Example,
    *,
    names: Sequence[str],
    step: float,
) -> None:
    """Below an example's tiles, each of which starts `step` pixels after the one before."""
    x, y = place
    size = CAPTION_SIZE
    points = style.POINTS_PER_PIXEL
    confidence = formats.confidence(example["confidence"])
    name_width = 1.1 * step * points
    predicted = fonts.fit(names[example["prediction"]], size=size, width=name_width)
    if _is_right(example):
        canvas.text(x, y, f"{predicted}  {confidence}", size=size)
        return
    true = fonts.fit(names[example["label"]], size=size, width=name_width)
    text = f"{true} \N{RIGHTWARDS ARROW} {predicted}  {confidence}"
    canvas.text(
        x,
        y,
        text,
        size=size,
        colour=style.RED,
    )
    below = y + CAPTION_LINE
    below_width = (step - 24) * points
    for k, key in enumerate(("prediction", "label"), 1):
        name = fonts.fit(names[example[key]], size=size, width=below_width)
        canvas.text(
            x + k * step,
            below,
            f"for {name}",
            size=size,
            colour=style.GREY,
        )


def _scale(canvas: Canvas, *, right: float, y: float) -> None:
    """The colours from nothing to the most, in the upper right corner."""
    colours = _colours(np.linspace(0, 1, 110))
    strip = (255 * colours).round().astype(np.uint8)
    canvas.image(right - 150, y, strip[None].repeat(10, axis=0))
    text = {"size": CAPTION_SIZE, "colour": style.GREY, "ha": "right", "va": "center_baseline"}
    canvas.text(right - 156, y + 5, "nothing", **text)
    canvas.text(right, y + 5, "most", **text)
