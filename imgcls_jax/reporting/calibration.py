"""A run's calibration for readers: a section of its page, a table and a sentence.

The figures are those of evaluation/calibration.py.
"""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from imgcls_jax.evaluation import paired
from imgcls_jax.evaluation.calibration import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    SIGNIFICANT,
    is_at_limit,
)
from imgcls_jax.reporting import formats, page, templates
from imgcls_jax.run.folder import CALIBRATION, CALIBRATION_PICTURE, RunFolder

WIDEST = 2.0  # high / low of a temperature's interval, above which there were too few images
REJECTED = 0.1  # share of the images left out, of which the sentence says what it would bring
HEAD = ["", "ECE, %", "Brier score", "Negative log-likelihood", "Accuracy, %"]

Figures = Mapping[str, Any]  # of calibration.json, or a part of it


def rows(results: Figures) -> list[list[str]]:
    """The cells of HEAD's table: as trained, and at the fitted temperature."""
    return [
        _row("As trained", results["as_trained"]),
        _row(f"At temperature {formats.temperature(results)}", results["scaled"]),
    ]


def _row(name: str, figures: Figures) -> list[str]:
    return [
        name,
        formats.percentage(figures["ece"]),
        f"{figures['brier']:.4f}",
        f"{figures['nll']:.4f}",
        formats.percentage(figures["accuracy"]),
    ]


def sentence(results: Figures) -> str:
    """What the temperature says, and the rejection curve where it says something."""
    accuracy = results["as_trained"]["accuracy"]
    points = [point for point in results["rejection"] if point["rejected"] == REJECTED]
    kept_accuracy = points[0]["accuracy"]
    text = _temperature_sentence(results)
    if kept_accuracy == accuracy:
        return text
    return (
        f"{text} Without the tenth of the images with the highest entropy the accuracy would be "
        f"{formats.percent(kept_accuracy)}."
    )


def confidence_sentence(temperature: float | None) -> str:
    """What a page that classifies says of its confidences. temperature: of best_temperature."""
    if temperature is None:
        return "Confidences are as trained: no calibration comes with the model."
    if temperature == 1:
        return "Confidences are as trained: no other temperature is shown to be better."
    return f"Confidences are calibrated: the temperature is {temperature:.3g}."


def _temperature_sentence(results: Figures) -> str:
    p = results.get("p")  # runs of older versions do not have it
    if p is not None and p >= SIGNIFICANT:
        return _no_finding(results, p)
    temperature = results["temperature"]
    before = formats.percent(results["as_trained"]["ece"])
    after = formats.percent(results["scaled"]["ece"])
    if is_at_limit(temperature):
        side = "below" if temperature < 1 else "above"
        return (
            f"No temperature is best: the validation set asks for one {side} all that are tried, "
            f"{MIN_TEMPERATURE:g} to {MAX_TEMPERATURE:g}. As trained the expected calibration "
            f"error on the test set is {before}."
        )
    kind = "overconfident" if temperature > 1 else "underconfident"
    fitted = formats.temperature(results)
    if _has_too_few_images(results):
        return (
            f"The run is {kind}, but {_images(results)} are too few to say by how much: the "
            f"temperature fitted on them is {fitted}, with its 95 % interval. It takes the "
            f"expected calibration error on the test set from {before} to {after}."
        )
    return (
        f"The run is {kind}: the temperature fitted on the validation set is {fitted}, "
        f"and takes the expected calibration error on the test set from {before} to {after}."
    )


def _no_finding(results: Figures, p: float) -> str:
    """What is said where a temperature of 1 is not rejected."""
    text = (
        "The validation set shows neither over- nor underconfidence "
        f"(p = {paired.p_value(p)}); the expected calibration error on the test set is "
        f"{formats.percent(results['as_trained']['ece'])}."
    )
    if not _has_too_few_images(results):
        return text
    return (
        f"{text} But {_images(results)} are too few to fit a temperature: the 95 % interval of "
        f"the fitted one is {results['low']:.3g} to {results['high']:.3g}."
    )


def _has_too_few_images(results: Figures) -> bool:
    """Whether the interval of the temperature is wide; runs of older versions do not have it."""
    return "low" in results and results["high"] > WIDEST * results["low"]


def _images(results: Figures) -> str:
    return formats.quantity(results["validation_examples"], "validation image")


def section(run: RunFolder) -> Markup:
    """The section of calibration.json and its picture, which it draws; empty without the file."""
    if not (run.path / CALIBRATION).exists():
        return Markup()
    from imgcls_jax.reporting.plots import calibration as plots
    from imgcls_jax.reporting.plots import style

    results = run.read_json(CALIBRATION)
    picture = run.path / CALIBRATION_PICTURE
    style.save(plots.draw(results), picture)
    chart = page.chart(
        picture,
        "Accuracy against confidence; accuracy against the share left out",
        narrow=style.png(plots.draw(results, narrow=True)),
    )
    body = templates.macros("tables.html").calibration(
        sentence(results),
        chart,
        page.table(HEAD, rows(results)),
    )
    return page.section("Calibration", body)
