"""What a run's robustness looks like: a table and a plot of the figures of evaluation/robustness.py."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from imgcls_jax.files import write_atomically
from imgcls_jax.reporting import page
from imgcls_jax.reporting.plain_tables import csv_table, escape, markdown_table
from imgcls_jax.run.folder import ROBUSTNESS, RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEAD = ["Corruption", "1", "2", "3", "4", "5", "Mean"]


def write(run: RunFolder, found: Mapping[str, Any]) -> str:
    """Writes robustness.json, .csv, .md and .png into the run's folder; returns the table."""
    from imgcls_jax.reporting import plots

    table = markdown(found)
    lines = [["corruption", "severity", "accuracy"], ["none", 0, found["clean"]]]
    for name, values in found["corruptions"].items():
        lines += [[name, severity, value] for severity, value in enumerate(values, 1)]
    write_atomically(run.path / "robustness.csv", csv_table(lines).encode())
    write_atomically(
        run.path / "robustness.md", f"# {escape(run.name)} under corruptions\n\n{table}".encode()
    )
    plots.save(plot(found), run.path / "robustness.png")
    run.write_json(ROBUSTNESS, found)
    return table


def markdown(found: Mapping[str, Any]) -> str:
    """Accuracy in percent by corruption and severity."""
    table = markdown_table(HEAD, _cells(found), figures=range(1, len(HEAD)))
    return (
        f"{table}\nTest accuracy in percent at five severities, on {found['examples']:,} images; clean "
        f"{100 * found['clean']:.2f}, mean over everything corrupted {100 * found['mean']:.2f}.\n"
    )


def section(run: RunFolder) -> Markup:
    """The section of robustness.json, where `imgcls robustness` has written it."""
    if not (run.path / ROBUSTNESS).exists():
        return Markup()
    found = run.read_json(ROBUSTNESS)
    note = (
        f"Accuracy in percent at severities 1 to 5, on {found['examples']:,} test images: clean "
        f"{page.percent(found['clean'])}, {page.percent(found['mean'])} on the mean of everything corrupted."
    )
    chart = page.chart(
        run.path / "robustness.png", "Accuracy against severity, a chart for each corruption"
    )
    table = page.table(HEAD, _cells(found))
    return page.section("Robustness", page.macros("tables.html").noted(note, [chart, table]))


def plot(found: Mapping[str, Any]) -> "Figure":
    """A small chart a corruption: accuracy against severity, the clean accuracy as a dashed line."""
    from matplotlib.figure import Figure

    from imgcls_jax.reporting import plots

    columns = 5
    rows = -(-len(found["corruptions"]) // columns)
    figure = Figure(figsize=(11, 0.3 + 2.1 * rows), layout="constrained", facecolor="white")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    # Few images may well be classified better corrupted than clean.
    shown = [
        found["clean"],
        *(value for values in found["corruptions"].values() for value in values),
    ]
    for axes, (name, values) in zip(grid.flat, found["corruptions"].items(), strict=False):
        axes.axhline(100 * found["clean"], color=plots.GREY, linewidth=1, linestyle=(0, (3, 3)))
        severities = range(1, len(values) + 1)
        axes.plot(
            severities,
            [100 * value for value in values],
            "o-",
            color=plots.BLUE,
            linewidth=1.8,
            markersize=4,
        )
        axes.set_title(words(name), loc="left", fontsize=10, color=plots.INK, fontweight="bold")
        axes.set_xticks(severities)
        axes.set_ylim(max(100 * min(shown) - 8, -2), min(100 * max(shown) + 5, 102))
        plots.plain(axes)
    for axes in list(grid.flat)[len(found["corruptions"]) :]:
        axes.set_visible(False)
    figure.supylabel("Test accuracy, %", fontsize=9.5, color=plots.INK)
    figure.supxlabel("Severity (dashed: clean images)", fontsize=9.5, color=plots.INK)
    return figure


def _cells(found: Mapping[str, Any]) -> list[list[str]]:
    return [
        [words(name), *(f"{100 * value:.2f}" for value in [*values, sum(values) / len(values)])]
        for name, values in found["corruptions"].items()
    ]


def words(name: str) -> str:
    return "JPEG" if name == "jpeg" else name.replace("_", " ").capitalize()
