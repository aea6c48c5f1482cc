"""What a run looks at, as a picture: the examples and maps of evaluation/gradcam.py."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from imgcls_jax.data.dataset import Dataset
from imgcls_jax.errors import choose
from imgcls_jax.evaluation import paired
from imgcls_jax.evaluation.gradcam import GROUPS, HELD, RIGHT, WRONG
from imgcls_jax.reporting import page
from imgcls_jax.run.folder import EXPLANATION, RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAP = "how much each place of the last feature map, stretched over the image, speaks for a class"
METHODS = {
    "gradcam": f"Grad-CAM: {_MAP}, its channels weighted by their mean gradient",
    "gradcam++": f"Grad-CAM++: {_MAP}, its channels weighted by their positive gradients",
    "saliency": "Saliency: how much a class' logit changes with each pixel",
}
SMALL, LARGE = (
    96,
    128,
)  # pixels on the picture of an image's longer side: about this at least, and at most
BRIGHTEST = 99  # percentile of a map from which on its colour is the brightest: single pixels stand out of saliency
OPACITY = (0.2, 0.8)  # of the colours, from a map's 0 to its brightest


def write(run: RunFolder, test: Dataset, found: Mapping[str, Any], maps: np.ndarray) -> None:
    """Writes explain.json and explain.png into the run's folder; found, maps: as of `gradcam.explain`."""
    from imgcls_jax.reporting import plots

    plots.save(plot(plots.pictured(test), found, maps), run.path / "explain.png", exact=True)
    run.write_json(EXPLANATION, found)


def section(run: RunFolder) -> Markup:
    """The section of explain.json, where `imgcls explain` has written it."""
    if not (run.path / EXPLANATION).exists():
        return Markup()
    chart = page.chart(
        run.path / "explain.png", "Test images beside maps of what speaks for a class", images=True
    )
    note = page.macros("parts.html").note(sentence(run.read_json(EXPLANATION)))
    return page.section("What the model looks at", note, chart)


def sentence(found: Mapping[str, Any]) -> str:
    """What the picture shows, and how its images were chosen."""
    method = choose("method", found["method"], METHODS)
    return (
        f"{method}. Shown are the most confident, the middle and the least confident of the right "
        "and the wrong predictions on the test set: each image beside the map for the class predicted, with its "
        "confidence, and wrong ones beside that for the true class as well. Every map is on a scale of its own."
        f"{_compactness_words(found)}"
    )


def _compactness_words(found: Mapping[str, Any]) -> str:
    """Runs of versions that did not measure it have none."""
    if not (measured := found.get("compactness")):
        return ""
    interval = _percents(measured["mean"], measured["low"], measured["high"])
    return f" {HELD:.0%} of a map's sum is in {interval} of the image, over {measured['images']} test images."


def compactness(shares: np.ndarray) -> dict[str, float]:
    """Mean and 95 % interval of `gradcam.compactness`, ready for JSON."""
    mean, low, high = paired.mean_interval(shares)
    return {"images": len(shares), "mean": mean, "low": low, "high": high}


def compactness_sentence(name: str, shares: np.ndarray) -> str:
    return (
        f"{HELD:.0%} of a map's sum is in {_percents(*paired.mean_interval(shares))} of the image: {name}, mean and "
        f"95 % interval over {len(shares)} test images."
    )


def difference_sentence(name: str, shares: np.ndarray, other: str, others: np.ndarray) -> str:
    """How much less of the same images one run's maps take than another's."""
    mean, low, high = paired.mean_interval(shares - others)
    if low <= 0 <= high:
        verdict = "no difference is shown"
    else:
        verdict = f"those of {name if high < 0 else other} are more compact"
    return f"Maps of {name} less those of {other}, on the same images: {_percents(mean, low, high, '+')}: {verdict}."


class Compared:
    """The maps of several runs, each against those of the first run on the same test images."""

    def __init__(self):
        self._first: dict[
            str, tuple[str, np.ndarray]
        ] = {}  # run and its shares, by the test set's fingerprint

    def sentences(self, name: str, test: Dataset, shares: np.ndarray) -> list[str]:
        first, others = self._first.setdefault(test.fingerprint, (name, shares))
        found = [compactness_sentence(name, shares)]
        return (
            found
            if others is shares
            else [*found, difference_sentence(name, shares, first, others)]
        )


def _percents(mean: float, low: float, high: float, sign: str = "") -> str:
    return f"{100 * mean:{sign}.1f} % [{100 * low:{sign}.1f}, {100 * high:{sign}.1f}]"


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The uint8 image [H, W, C] in grey, under the map [H, W] in colours by its own scale: uint8 [H, W, 3]."""
    heat = np.clip(heat / (np.percentile(heat, BRIGHTEST) or heat.max() or 1), 0, 1)
    grey = image.mean(-1, keepdims=True) / 255
    opacity = np.interp(heat, (0, 1), OPACITY)[..., None]
    return (255 * ((1 - opacity) * grey + opacity * _colours(heat))).round().astype(np.uint8)


def _colours(heat: np.ndarray) -> np.ndarray:
    from matplotlib import colormaps

    return colormaps["inferno"](heat)[..., :3]


def plot(test: Dataset, found: Mapping[str, Any], maps: np.ndarray) -> "Figure":
    """Right predictions beside the map of their class; wrong ones beside those of the predicted and the true class."""
    from imgcls_jax.reporting import plots

    side = int(np.clip(max(test.images.shape[1:3]), SMALL, LARGE))
    height, width = plots.tile_shape(test, side)
    gap, space, margin, heading = 4, 14, 10, 30
    examples = list(zip(found["examples"], maps, strict=True))
    rows = []  # title, examples, how many stand beside each other, and the height
    for title, right, columns, caption in (("Right", True, RIGHT, 34), ("Wrong", False, WRONG, 50)):
        for group in GROUPS:
            row = [
                each for each in examples if each[0]["group"] == group and _right(each[0]) == right
            ]
            rows += [(f"{title}, {group}", row, columns, heading + height + caption)] if row else []
    inner = (
        max(RIGHT * (2 * (width + gap) + space), WRONG * (3 * (width + gap) + space)) - space - gap
    )
    canvas = plots.Canvas(
        width=2 * margin + inner, height=2 * margin + sum(row[-1] for row in rows)
    )
    _scale(canvas, right=margin + inner, y=margin)
    top = margin
    for title, row, columns, whole in rows:
        canvas.text(margin, top + heading - 10, title, 10, plots.INK, va="baseline", weight="bold")
        for column, (example, (predicted, true)) in enumerate(row):
            left = margin + column * (inner + space) / columns
            image = test.images[example["index"]]
            tiles = [
                image,
                overlay(image, predicted),
                *([] if _right(example) else [overlay(image, true)]),
            ]
            for k, tile in enumerate(tiles):
                canvas.image(left + k * (width + gap), top + heading, plots.tile(tile, side))
            _caption(
                canvas, left, top + heading + height + 16, example, test.class_names, width + gap
            )
        top += whole
    return canvas.figure()


def _right(example: Mapping[str, Any]) -> bool:
    return example["label"] == example["prediction"]


def _caption(
    canvas, x: float, y: float, example: Mapping[str, Any], names: Sequence[str], step: float
) -> None:
    """Below an example's tiles, which stand `step` pixels from each other."""
    from imgcls_jax.reporting import plots

    size, points = 8.5, 72 / plots.DPI
    confidence = plots.percent(example["confidence"])
    predicted = plots.fit(names[example["prediction"]], size, 1.1 * step * points)
    if _right(example):
        canvas.text(x, y, f"{predicted}  {confidence}", size, plots.INK)
        return
    true = plots.fit(names[example["label"]], size, 1.1 * step * points)
    canvas.text(x, y, f"{true} \N{RIGHTWARDS ARROW} {predicted}  {confidence}", size, plots.RED)
    for k, key in enumerate(("prediction", "label"), 1):
        name = plots.fit(names[example[key]], size, (step - 24) * points)
        canvas.text(x + k * step, y + 16, f"for {name}", size, plots.GREY)


def _scale(canvas, *, right: float, y: float) -> None:
    """The colours from nothing to the most, in the upper right corner."""
    from imgcls_jax.reporting import plots

    strip = (255 * _colours(np.linspace(0, 1, 110))).round().astype(np.uint8)
    canvas.image(right - 150, y, strip[None].repeat(10, axis=0))
    canvas.text(right - 156, y + 5, "nothing", 8.5, plots.GREY, ha="right", va="center_baseline")
    canvas.text(right, y + 5, "most", 8.5, plots.GREY, ha="right", va="center_baseline")
