"""A run's robustness for readers: files in its folder and a section of its page.

The figures are those of evaluation/robustness.py.
"""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from imgcls_jax.files import write_atomically
from imgcls_jax.reporting import formats, page, templates
from imgcls_jax.reporting.plain_tables import csv_table, escape, markdown_table
from imgcls_jax.run.folder import ROBUSTNESS, RunFolder

HEAD = ["Corruption", "1", "2", "3", "4", "5", "Mean"]

Results = Mapping[str, Any]  # of robustness.json


def write(run: RunFolder, results: Results) -> str:
    """Writes robustness.json, .csv, .md and .png into the run's folder; returns the table."""
    from imgcls_jax.reporting.plots import robustness as plots
    from imgcls_jax.reporting.plots import style

    table = markdown(results)
    text = f"# {escape(run.name)} under corruptions\n\n{table}"
    write_atomically(run.path / "robustness.csv", _csv(results).encode())
    write_atomically(run.path / "robustness.md", text.encode())
    style.save(plots.draw(results), run.path / "robustness.png")
    run.write_json(ROBUSTNESS, results)
    return table


def markdown(results: Results) -> str:
    """Accuracy in percent by corruption and severity."""
    table = markdown_table(HEAD, _rows(results), figures=range(1, len(HEAD)))
    clean = formats.percentage(results["clean"])
    mean = formats.percentage(results["mean"])
    return (
        f"{table}\nTest accuracy in percent at five severities, on {results['examples']:,} images; "
        f"clean {clean}, mean over everything corrupted {mean}.\n"
    )


def section(run: RunFolder) -> Markup:
    """The section of robustness.json, which `imgcls robustness` writes; empty without the file."""
    if not (run.path / ROBUSTNESS).exists():
        return Markup()
    from imgcls_jax.reporting.plots import robustness as plots
    from imgcls_jax.reporting.plots import style

    results = run.read_json(ROBUSTNESS)
    picture = run.path / "robustness.png"
    style.save(plots.draw(results), picture)
    chart = page.chart(picture, "Accuracy against severity, a chart for each corruption")
    body = templates.macros("tables.html").robustness(
        examples=f"{results['examples']:,}",
        clean=formats.percent(results["clean"]),
        mean=formats.percent(results["mean"]),
        chart=chart,
        table=page.table(HEAD, _rows(results)),
    )
    return page.section("Robustness", body)


def _csv(results: Results) -> str:
    lines = [["corruption", "severity", "accuracy"], ["none", 0, results["clean"]]]
    for name, accuracies in results["corruptions"].items():
        for severity, accuracy in enumerate(accuracies, 1):
            lines.append([name, severity, accuracy])
    return csv_table(lines)


def _rows(results: Results) -> list[list[str]]:
    """The cells of HEAD's table."""
    rows = []
    for name, accuracies in results["corruptions"].items():
        mean = sum(accuracies) / len(accuracies)
        cells = [formats.percentage(accuracy) for accuracy in (*accuracies, mean)]
        rows.append([formats.title(name), *cells])
    return rows
