"""What a run's calibration looks like: the figures of evaluation/calibration.py as a chart, a table and a sentence."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from imgcls_jax.evaluation import paired
from imgcls_jax.evaluation.calibration import BINS, COLDEST, HOTTEST
from imgcls_jax.reporting import page
from imgcls_jax.run.folder import CALIBRATION, RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIGNIFICANT = 0.05  # p below which a temperature other than 1 is shown
HEAD = ["", "ECE, %", "Brier score", "Negative log-likelihood", "Accuracy, %"]


def rows(found: Mapping[str, Any]) -> list[list[str]]:
    """The cells of HEAD's table: as trained, and at the fitted temperature."""
    table = []
    named = {
        "As trained": found["as_trained"],
        f"At temperature {found['temperature']:.3g}": found["scaled"],
    }
    for name, each in named.items():
        scores = (f"{each['brier']:.4f}", f"{each['nll']:.4f}")
        table.append([name, f"{100 * each['ece']:.2f}", *scores, _percent(each["accuracy"])])
    return table


def sentence(found: Mapping[str, Any]) -> str:
    """What the temperature and the rejection curve say, in words, where they say something."""
    temperature, accuracy = found["temperature"], found["as_trained"]["accuracy"]
    before, after = (100 * found[key]["ece"] for key in ("as_trained", "scaled"))
    p = found.get("p")
    if p is not None and p >= SIGNIFICANT:  # runs of older versions do not have it
        words = (
            f"The validation set shows neither over- nor underconfidence (p = {paired.p_value(p)}); the expected "
            f"calibration error on the test set is {before:.2f} %."
        )
    elif not COLDEST * 1.1 < temperature < HOTTEST * 0.9:
        kind = "below" if temperature < 1 else "above"
        words = (
            f"No temperature is best: the validation set asks for one {kind} all that are tried, {COLDEST:g} to "
            f"{HOTTEST:g}. As trained the expected calibration error on the test set is {before:.2f} %."
        )
    else:
        kind = "overconfident" if temperature > 1 else "underconfident"
        words = (
            f"The run is {kind}: the temperature fitted on the validation set is {temperature:.3g}, and takes the "
            f"expected calibration error on the test set from {before:.2f} % to {after:.2f} %."
        )
    left = next(each["accuracy"] for each in found["rejection"] if each["rejected"] == 0.1)
    if left == accuracy:
        return words
    return f"{words} Without the tenth of the images with the highest entropy the accuracy would be {_percent(left)} %."


def section(run: RunFolder) -> Markup:
    """The section of calibration.json, with its picture; nothing where it is not there."""
    if not (run.path / CALIBRATION).exists():
        return Markup()
    from imgcls_jax.reporting import plots

    found = run.read_json(CALIBRATION)
    plots.save(plot(found), run.path / "calibration.png")
    chart = page.chart(
        run.path / "calibration.png",
        "Accuracy against confidence; accuracy against the share left out",
    )
    body = page.macros("tables.html").calibration(
        sentence(found), chart, page.table(HEAD, rows(found))
    )
    return page.section("Calibration", body)


def plot(found: Mapping[str, Any]) -> "Figure":
    """Reliability diagrams as trained and at the fitted temperature, and the rejection curve."""
    from matplotlib.figure import Figure

    from imgcls_jax.reporting import plots

    figure = Figure(figsize=(10.5, 3.7), layout="constrained", facecolor="white")
    trained, scaled, curve = figure.subplots(1, 3)
    for axes, title, each in (
        (trained, "As trained", found["as_trained"]),
        (scaled, f"At temperature {found['temperature']:.3g}", found["scaled"]),
    ):
        _diagram(axes, each["reliability"])
        axes.set_title(title, loc="left", fontsize=10.5, color=plots.INK, fontweight="bold")
        axes.text(
            0.03,
            0.93,
            f"ECE {100 * each['ece']:.2f} %",
            fontsize=9.5,
            color=plots.INK,
            transform=axes.transAxes,
        )
    trained.set_ylabel("Accuracy, %", fontsize=9.5, color=plots.INK)
    draw_rejection(curve, found["rejection"], plots.BLUE)
    return figure


def draw_rejection(
    axes: Any, points: Sequence[Mapping[str, float]], colour: str, *, label: str | None = None
) -> None:
    """A rejection curve, as of evaluation/calibration.py, with title and axes."""
    from imgcls_jax.reporting import plots

    x, y = ([100 * point[key] for point in points] for key in ("rejected", "accuracy"))
    axes.plot(x, y, "o-", color=colour, linewidth=1.8, markersize=4, label=label)
    axes.set_title(
        "Accuracy on what is left, %", loc="left", fontsize=10.5, color=plots.INK, fontweight="bold"
    )
    axes.set_xlabel("Most uncertain images left out, %", fontsize=9.5, color=plots.INK)
    plots.plain(axes)


def _diagram(axes: Any, bins: Sequence[Mapping[str, float]]) -> None:
    """Accuracy against confidence by bins: blue, deeper for more examples; red or orange how far they are apart."""
    from imgcls_jax.reporting import plots

    width, most = 100 / BINS, max(each["examples"] for each in bins)
    for each in bins:
        left, accuracy, confidence = (
            each["bin"] * width,
            100 * each["accuracy"],
            100 * each["confidence"],
        )
        alpha = 0.25 + 0.75 * (each["examples"] / most) ** 0.5
        low, high = sorted((accuracy, confidence))
        axes.bar(left, low, width * 0.92, align="edge", color=plots.BLUE, alpha=alpha, linewidth=0)
        colour = plots.RED if confidence > accuracy else plots.ORANGE
        axes.bar(
            left,
            high - low,
            width * 0.92,
            bottom=low,
            align="edge",
            color=colour,
            alpha=0.35,
            linewidth=0,
        )
    axes.plot([0, 100], [0, 100], color=plots.GREY, linewidth=1, linestyle=(0, (3, 3)))
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100)
    axes.set_xlabel("Confidence, %", fontsize=9.5, color=plots.INK)
    plots.plain(axes)


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"
