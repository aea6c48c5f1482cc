"""An ensemble for readers: a table, sentences and a page.

The figures are those of evaluation/ensemble.py.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from markupsafe import Markup

from imgcls_jax.data.dataset import Dataset
from imgcls_jax.evaluation import calibration, paired
from imgcls_jax.files import write_atomically
from imgcls_jax.reporting import calibration as reliability
from imgcls_jax.reporting import formats, page, tables, templates
from imgcls_jax.reporting.plain_tables import Markdown, escape, markdown_table
from imgcls_jax.run.ensemble_folder import count_parameters
from imgcls_jax.run.folder import ENSEMBLE, REPORT, RunFolder

HEAD = ["Member", "Weight", "Accuracy, %", "Loss", "Parameters", "Ensemble better by", "p"]
SOFT_VOTING = "soft voting of the same members"
MOST_SHOWN = 24  # images on which the members disagree
SIDE = 96  # pixels on the page of an image's longer side, about

Summary = Mapping[str, Any]  # of ensemble.json, or a part of it


def write(run: RunFolder, members: Sequence[RunFolder], test: Dataset) -> str:
    """Writes ensemble.md, ensemble.png and report.html from the folder's files; returns the table."""
    from imgcls_jax.reporting.plots import ensemble as plots
    from imgcls_jax.reporting.plots import style

    summary = run.read_json(ENSEMBLE)
    table = markdown(summary)
    text = "\n".join(sentences(summary, form=escape))
    text = (
        f"# {escape(run.name)}\n\n{table}\n{text}\n\n"
        "![The members and where they differ](ensemble.png)\n"
    )
    write_atomically(run.path / "ensemble.md", text.encode())
    style.save(plots.draw(summary), run.path / "ensemble.png")
    html = _page(run, members, test)
    write_atomically(run.path / REPORT, html.encode())
    return table


def _page(run: RunFolder, members: Sequence[RunFolder], test: Dataset) -> str:
    from imgcls_jax.reporting.plots import ensemble as plots
    from imgcls_jax.reporting.plots import style

    summary = run.read_json(ENSEMBLE)
    parts = templates.macros("ensemble.html")
    lead, *details = sentences(summary)
    *rows, last = _rows(summary)
    chart = page.chart(
        run.path / "ensemble.png",
        "Accuracies, disagreement and rejection curves of the ensemble",
        narrow=style.png(plots.draw(summary, narrow=True)),
    )
    member_table = page.table(HEAD, rows, foot=last)
    classes = tables.classes(summary["test"], run.predictions[0], test)
    sections = [
        parts.header(run.name, lead),
        page.section("Members", parts.members(member_table, details, chart)),
        page.section("Where the members disagree", _disagreements(run, members, test)),
        page.section("Classes", classes),
        reliability.section(run),
    ]
    title = f"{run.name}: {formats.percent(summary['test']['accuracy'])}"
    return page.page(title, Markup().join(sections), script=page.scripts(page.SORTING))


def markdown(summary: Summary) -> str:
    """The members and, last, the ensemble; p is McNemar's, of the ensemble against the member."""
    return markdown_table(HEAD, _rows(summary), figures=range(1, len(HEAD)))


def sentences(summary: Summary, *, form: Callable[[str], str] = str) -> list[str]:
    """The ensemble's accuracy, and how it compares with each member.

    form: is applied to names.
    """
    scores = summary["test"]
    members = summary["members"]
    lines = [
        f"{len(members)} members, weights {form(summary['rule'])}: test accuracy "
        f"{formats.percent(scores['accuracy'])}, loss {scores['loss']:.4f}, on "
        f"{scores['examples']:,} images; at least one member is right on "
        f"{formats.percent(summary['oracle'])}."
    ]
    soft_voting = summary.get("soft_voting")
    if soft_voting:
        lines.append(paired.sentence("the ensemble", SOFT_VOTING, soft_voting["against"]))
    for member in members:
        name = form(_name(member))
        lines.append(paired.sentence("the ensemble", name, member["against"]))
    return lines


def _name(member: Summary) -> str:
    """The name of a member's run."""
    return PurePosixPath(member["run"]).name


def _rows(summary: Summary) -> list[list[str]]:
    """The cells of HEAD's table: members, soft voting where it was compared, and the ensemble."""
    rows = []
    for number, member in enumerate(summary["members"], 1):
        name = f"{number} {_name(member)}"
        weight = f"{member['weight']:.3g}"
        rows.append([name, weight, *_figures(member, parameters=f"{member['parameters']:,}")])
    soft_voting = summary.get("soft_voting")
    if soft_voting:
        rows.append([SOFT_VOTING, "equal", *_figures(soft_voting, parameters="")])
    rows.append(_ensemble_row(summary))
    return rows


def _figures(system: Summary, *, parameters: str) -> list[str]:
    """Accuracy, loss and parameters, and by how much the ensemble is better."""
    against = system["against"]
    interval = formats.interval(against["low"], against["high"], "+.2f")
    return [
        formats.percentage(system["accuracy"]),
        f"{system['loss']:.4f}",
        parameters,
        Markdown(f"{100 * against['difference']:+.2f} {interval}"),
        Markdown(paired.p_value(against["p"])),
    ]


def _ensemble_row(summary: Summary) -> list[str]:
    scores = summary["test"]
    parameters = count_parameters(summary)
    accuracy = formats.percentage(scores["accuracy"])
    return ["ensemble", "", accuracy, f"{scores['loss']:.4f}", f"{parameters:,}", "", ""]


def _disagreements(run: RunFolder, members: Sequence[RunFolder], test: Dataset) -> Markup:
    """The test images on which the members differ most, with what each member says."""
    parts = templates.macros("ensemble.html")
    summary = run.read_json(ENSEMBLE)
    weights = np.array([member["weight"] for member in summary["members"]])
    probabilities = np.stack([member.predictions[0] for member in members])  # [members, N, K]
    guesses = probabilities.argmax(-1)
    differ = np.flatnonzero((guesses != guesses[0]).any(0))
    information = calibration.mutual_information(probabilities, weights)
    order = np.argsort(-information[differ], kind="stable")
    shown = differ[order][:MOST_SHOWN]
    if not len(shown):
        return parts.agreement()
    ensemble_guesses = run.predictions[0].argmax(-1)
    names = [test.class_names[label] for label in test.labels[shown]]
    captions = []
    for index, true_name in zip(shown, names, strict=True):
        opinions = []
        for number, member_probabilities in enumerate(probabilities[:, index], 1):
            guess = test.class_names[member_probabilities.argmax()]
            opinions.append(f"{number}: {guess}, {100 * member_probabilities.max():.0f} %")
        guess = ensemble_guesses[index]
        is_wrong = bool(guess != test.labels[index])
        pair = page.taken_for(true_name, test.class_names[guess], is_wrong=is_wrong)
        captions.append(parts.opinions(pair, opinions))
    tiles = page.tiles(test.images[shown], names, captions, side=SIDE)
    return parts.disagreements(len(shown), f"{len(differ):,}", tiles)
