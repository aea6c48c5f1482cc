"""What an ensemble looks like: a table, a picture and a page of the figures of evaluation/ensemble.py."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from imgcls_jax.data.dataset import Dataset
from imgcls_jax.evaluation import calibration, paired
from imgcls_jax.files import write_atomically
from imgcls_jax.reporting import calibration as reliability
from imgcls_jax.reporting import page, tables
from imgcls_jax.reporting.plain_tables import Markdown, escape, markdown_table
from imgcls_jax.run.folder import ENSEMBLE, REPORT, RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEAD = ["Member", "Weight", "Accuracy, %", "Loss", "Parameters", "Ensemble better by", "p"]
SOFT_VOTING = "soft voting of the same members"
MOST_SHOWN = 24  # images on which the members disagree
SIDE = 96  # pixels on the page that an image's longer side takes, about


def write(run: RunFolder, members: Sequence[RunFolder], test: Dataset) -> str:
    """Writes ensemble.md, ensemble.png and report.html from what the folder holds; returns the table."""
    from imgcls_jax.reporting import plots

    found = run.read_json(ENSEMBLE)
    table, words = markdown(found), sentences(found)
    said = "\n".join(sentences(found, form=escape))
    text = f"# {escape(run.name)}\n\n{table}\n{said}\n\n![The members and where they differ](ensemble.png)\n"
    write_atomically(run.path / "ensemble.md", text.encode())
    plots.save(plot(found), run.path / "ensemble.png")
    scores = found["test"]
    parts, (*cells, last) = page.macros("ensemble.html"), _cells(found)
    chart = page.chart(
        run.path / "ensemble.png", "Accuracies, disagreement and rejection curves of the ensemble"
    )
    body = (
        parts.header(run.name, words[0])
        + page.section(
            "Members", parts.members(page.table(HEAD, cells, foot=last), words[1:], chart)
        )
        + page.section("Where the members disagree", _disagreements(run, found, members, test))
        + page.section("Classes", tables.classes(scores, run.predictions[0], test))
        + reliability.section(run)
    )
    title = f"{run.name}: {page.percent(scores['accuracy'])}"
    write_atomically(run.path / REPORT, page.page(title, body).encode())
    return table


def markdown(found: Mapping[str, Any]) -> str:
    """The members and, last, the ensemble; p is McNemar's, of the ensemble against the member."""
    return markdown_table(HEAD, _cells(found), figures=range(1, len(HEAD)))


def sentences(found: Mapping[str, Any], *, form: Callable[[str], str] = str) -> list[str]:
    """What was found, in words: the ensemble's accuracy, then how it compares with each member.

    form: what becomes of names.
    """
    scores, members = found["test"], found["members"]
    first = (
        f"{len(members)} members, weights {form(found['rule'])}: test accuracy {page.percent(scores['accuracy'])}, "
        f"loss {scores['loss']:.4f}, on {scores['examples']:,} images; at least one member is right on "
        f"{page.percent(found['oracle'])}."
    )
    others = [(form(_name(member["run"])), member["against"]) for member in members]
    if soft := found.get("soft_voting"):
        others.insert(0, (SOFT_VOTING, soft["against"]))
    return [first, *(paired.sentence("the ensemble", name, against) for name, against in others)]


def plot(found: Mapping[str, Any]) -> "Figure":
    """Accuracies of members and ensemble; how often two members differ; the accuracy without what is uncertain."""
    from matplotlib.figure import Figure

    from imgcls_jax.reporting import plots

    names = [
        f"{n} {plots.short(_name(member['run']), 24)}"
        for n, member in enumerate(found["members"], 1)
    ]
    figure = Figure(
        figsize=(12, max(3.4, 1.6 + 0.45 * len(names))), layout="constrained", facecolor="white"
    )
    dots, matrix, curve = figure.subplots(1, 3, width_ratios=(5, 4, 4))
    title = {"loc": "left", "fontsize": 10.5, "color": plots.INK, "fontweight": "bold"}

    values = [100 * member["accuracy"] for member in found["members"]] + [
        100 * found["test"]["accuracy"]
    ]
    colours = [plots.BLUE] * len(names) + [plots.ORANGE]
    for y, (value, colour) in enumerate(zip(values, colours, strict=True)):
        dots.plot([min(values), value], [y, y], color=colour, linewidth=2, alpha=0.35)
        dots.plot(value, y, "o", color=colour, markersize=8)
        dots.annotate(
            f"{value:.2f}", (value, y), (0, 8), textcoords="offset points", ha="center", fontsize=9
        )
    dots.set_yticks(range(len(values)), [*names, "ensemble"])
    dots.set_ylim(len(values) - 0.5, -0.7)
    dots.margins(x=0.15)
    dots.set_title("Test accuracy, %", **title)
    plots.plain(dots)

    shares = 100 * np.array(found["disagreement"])
    matrix.imshow(shares, cmap="Blues", vmin=0, vmax=1.6 * max(shares.max(), 1e-9))
    for (row, column), share in np.ndenumerate(shares):
        if row != column:
            matrix.text(
                column, row, f"{share:.1f}", ha="center", va="center", fontsize=9, color=plots.INK
            )
    numbers = [str(number) for number in range(1, len(names) + 1)]
    matrix.set_xticks(range(len(names)), numbers)
    matrix.set_yticks(range(len(names)), numbers)
    matrix.tick_params(length=0, labelcolor=plots.INK)
    matrix.spines[:].set_visible(False)
    matrix.set_title("Two members differ on, %", **title)

    for key, colour in (("entropy", plots.BLUE), ("mutual_information", plots.ORANGE)):
        reliability.draw_rejection(curve, found["rejection"][key], colour, label=page.words(key))
    curve.legend(frameon=False, fontsize=9, labelcolor=plots.INK, loc="lower right")
    return figure


def _cells(found: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for number, member in enumerate(found["members"], 1):
        name, weight = f"{number} {_name(member['run'])}", f"{member['weight']:.3g}"
        rows.append([name, weight, *_figures(member, f"{member['parameters']:,}")])
    if soft := found.get("soft_voting"):
        rows.append([SOFT_VOTING, "equal", *_figures(soft, "")])
    scores, parameters = (
        found["test"],
        sum(member["parameters"] for member in found["members"] if member["weight"]),
    )
    last = [
        "ensemble",
        "",
        f"{100 * scores['accuracy']:.2f}",
        f"{scores['loss']:.4f}",
        f"{parameters:,}",
        "",
        "",
    ]
    return [*rows, last]


def _figures(system: Mapping[str, Any], parameters: str) -> list[str]:
    """Accuracy, loss and parameters, and how much better the ensemble is."""
    against = system["against"]
    gain = f"{100 * against['difference']:+.2f} [{100 * against['low']:+.2f}, {100 * against['high']:+.2f}]"
    figures = [f"{100 * system['accuracy']:.2f}", f"{system['loss']:.4f}", parameters]
    return [*figures, Markdown(gain), Markdown(paired.p_value(against["p"]))]


def _disagreements(
    run: RunFolder, found: Mapping[str, Any], members: Sequence[RunFolder], test: Dataset
) -> Markup:
    """The test images of which the members say the most different things, with what each says."""
    parts = page.macros("ensemble.html")
    weights = np.array([member["weight"] for member in found["members"]])
    probabilities = np.stack([member.predictions[0] for member in members])
    informed = calibration.mutual_information(probabilities, weights)
    guesses, voted = probabilities.argmax(-1), run.predictions[0].argmax(-1)
    apart = np.flatnonzero((guesses != guesses[0]).any(0))
    shown = apart[np.argsort(-informed[apart], kind="stable")][:MOST_SHOWN]
    if not len(shown):
        return parts.agreement()
    names, captions = [test.class_names[label] for label in test.labels[shown]], []
    for index, true in zip(shown, names, strict=True):
        says = [
            f"{number}: {test.class_names[guess[index]]}, {100 * each[index].max():.0f} %"
            for number, (guess, each) in enumerate(zip(guesses, probabilities, strict=True), 1)
        ]
        wrong = bool(voted[index] != test.labels[index])
        captions.append(
            parts.opinions(page.taken_for(true, test.class_names[voted[index]], wrong=wrong), says)
        )
    tiles = page.tiles(test.images[shown], names, captions, side=SIDE)
    return parts.disagreements(len(shown), f"{len(apart):,}", tiles)


def _name(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1]
