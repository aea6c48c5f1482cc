"""What a run looks at, for readers: a picture, a section of its page, and sentences.

The maps are those of evaluation/gradcam.py.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup

from imgcls_jax.data.dataset import Dataset
from imgcls_jax.errors import choose
from imgcls_jax.evaluation import paired
from imgcls_jax.evaluation.gradcam import HELD_SHARE
from imgcls_jax.reporting import formats, page
from imgcls_jax.run.folder import EXPLANATION, RunFolder

PICTURE = "explain.png"
_MAP = "how much each place of the last feature map, stretched over the image, speaks for a class"
METHODS = {
    "gradcam": f"Grad-CAM: {_MAP}, its channels weighted by their mean gradient",
    "gradcam++": f"Grad-CAM++: {_MAP}, its channels weighted by their positive gradients",
    "saliency": "Saliency: how much a class' logit changes with each pixel",
}


def write(
    run: RunFolder,
    test: Dataset,
    *,
    explanation: Mapping[str, Any],
    maps: np.ndarray,
) -> None:
    """Writes explain.json and explain.png into the run's folder.

    explanation, maps: as `gradcam.explain` returns them, and the compactness of maps, if measured.
    """
    from imgcls_jax.reporting.plots import explanation as plots
    from imgcls_jax.reporting.plots import fonts, style

    drawn = fonts.with_legible_names(test)
    figure = plots.draw(drawn, explanation["examples"], maps=maps)
    style.save(figure, run.path / PICTURE, exact=True)
    run.write_json(EXPLANATION, explanation)


def section(run: RunFolder) -> Markup:
    """The section of explain.json, which `imgcls explain` writes; empty without the file."""
    if not (run.path / EXPLANATION).exists():
        return Markup()
    description = "Test images beside maps of what speaks for a class"
    chart = page.chart(run.path / PICTURE, description, images=True)
    note = page.note(sentence(run.read_json(EXPLANATION)))
    return page.section("What the model looks at", note, chart)


def sentence(explanation: Mapping[str, Any]) -> str:
    """What the picture shows, how its images were chosen, and how compact the maps are."""
    method = choose("method", explanation["method"], METHODS)
    text = (
        f"{method}. Shown are the most confident, the middle and the least confident of the right "
        "and the wrong predictions on the test set: each image beside the map for the predicted "
        "class, with its confidence, and wrong ones beside the map for the true class as well. "
        "Every map is on a scale of its own."
    )
    measured = explanation.get("compactness")
    if not measured:  # of runs of older versions
        return text
    share = _interval(measured["mean"], measured["low"], measured["high"])
    images = f"over {measured['images']} test images"
    return f"{text} {HELD_SHARE:.0%} of a map's sum is in {share} of the image, {images}."


def compactness(shares: np.ndarray) -> dict[str, float]:
    """Mean and 95 % interval of `gradcam.compactness`, ready for JSON."""
    mean, low, high = paired.mean_interval(shares)
    return {"images": len(shares), "mean": mean, "low": low, "high": high}


def compactness_sentence(name: str, shares: np.ndarray) -> str:
    """In what share of the image a run's maps are, shares being of `gradcam.compactness`."""
    share = _interval(*paired.mean_interval(shares))
    return (
        f"{HELD_SHARE:.0%} of a map's sum is in {share} of the image: {name}, mean and 95 % interval "
        f"over {len(shares)} test images."
    )


def difference_sentence(
    name: str,
    shares: np.ndarray,
    *,
    other: str,
    other_shares: np.ndarray,
) -> str:
    """How much less of the same images one run's maps take than another's."""
    mean, low, high = paired.mean_interval(shares - other_shares)
    if low <= 0 <= high:
        verdict = "no difference is shown"
    elif high < 0:
        verdict = f"those of {name} are more compact"
    else:
        verdict = f"those of {other} are more compact"
    difference = _interval(mean, low, high, form="+.1f")
    return f"Maps of {name} less those of {other}, on the same images: {difference}: {verdict}."


class Comparison:
    """Compares the maps of several runs with those of the first run on the same test images."""

    def __init__(self):
        # Name and shares of the first run, by the test set's fingerprint.
        self._first: dict[str, tuple[str, np.ndarray]] = {}

    def sentences(self, name: str, test: Dataset, *, shares: np.ndarray) -> list[str]:
        """On the run `name`, whose maps have the shares that `gradcam.compactness` returns."""
        sentences = [compactness_sentence(name, shares)]
        if test.fingerprint not in self._first:
            self._first[test.fingerprint] = (name, shares)
            return sentences
        first, first_shares = self._first[test.fingerprint]
        difference = difference_sentence(name, shares, other=first, other_shares=first_shares)
        return [*sentences, difference]


def _interval(
    mean: float,
    low: float,
    high: float,
    *,
    form: str = ".1f",
) -> str:
    return f"{100 * mean:{form}} % {formats.interval(low, high, form)}"
