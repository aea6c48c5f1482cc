"""The reproduction table: every row of the reports that this project repeats, and ours."""

import collections
import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from imgcls_jax.errors import RunError
from imgcls_jax.files import write_atomically
from imgcls_jax.reporting import compare
from imgcls_jax.reporting.plain_tables import Markdown, markdown_table
from imgcls_jax.run.folder import TEST, RunFolder

SYSTEMS = "systems.csv"  # a line for each row of the reports
COLUMNS = [
    *(
        "row",
        "system",
        "reported",
        "accuracy",
        "gap",
        "epochs",
    ),  # the report's; gap in percentage points
    "ours",  # a published run, what is before -seedN of several, a file, or "row NAME", whose runs are the same
    "stand-in",  # what `ours` is of, where that is not the report's system, or not all of it
    *("choices", "config", "waits for"),  # what the recipe has that the report does not say
]
TABLE, PICTURE = "README.md", "reproduction.png"
HEAD = (
    *("Row", "System", "Reported, %", "Ours, %", "Gap, pp", "Seeds", "Loss"),
    *("Epochs", "Device", "Ours in the recipe", "Config"),
)
SHORT = 7  # the first columns of HEAD, which the project's README has
SAME = "row "
# In the project's README the table stands between these lines.
BEGIN, END = (
    "<!-- reproduction table: python -m imgcls_jax reproduce results -->\n",
    "<!-- end of the table -->\n",
)
# The rows of each kind, counted apart in the summary.
KINDS = {
    "figure": "have a figure beside a reported one",
    "the same runs": "has another row's runs",
    "figure alone": "have a figure where none was reported",
    "figure of a stand-in": "have a stand-in's figure",
    "shown": "are shown",
    "shown of a stand-in": "are shown of a stand-in",
}
Systems = Mapping[str, Mapping[str, str]]  # lines of systems.csv by their row
Rows = Mapping[str, compare.Row]  # ours by the same
REPORTS = {
    "A": "a hybrid of ResNet-18 and GoogLeNet with LoRA",
    "B": "four models on MNIST",
    "C": "an SE-ResNet under five million parameters",
    "D": "four levels on CIFAR-10",
    "E": "from a small CNN to EfficientNetV2",
}


def write(folder: Path, readme: Path) -> str:
    """Writes `folder`/README.md and its picture, and the rows that have a figure into `readme`; returns the summary.

    folder: has systems.csv, and the published runs that its column "ours" names: a run, what is before -seedN of the
    runs of several seeds, or a file that shows what is no figure. Raises RunError where it is not such a folder.
    """
    from imgcls_jax.reporting import compare_plots, plots

    systems, rows = _read(folder)
    whole, short = render(folder)
    compared = [row for name, row in rows.items() if _kind(folder, systems, name, rows) == "figure"]
    plots.save(compare_plots.differences(compared), folder / PICTURE)
    write_atomically(folder / TABLE, whole.encode())
    _write_between(readme, short)
    return _summary(folder, systems, rows)


def render(folder: Path) -> tuple[str, str]:
    """What `write` writes: `folder`/README.md, and the table for the project's README."""
    systems, rows = _read(folder)
    text = (
        "# Every row of the five reports, and ours\n\n"
        f"Written by `python -m imgcls_jax reproduce {folder.name}` from the runs published here and from "
        f"[{SYSTEMS}]({SYSTEMS}); with `--verify` every figure is computed again from the predictions and the labels. "
        f"{_summary(folder, systems, rows)}\n\nAccuracies are of the test set, in percent, unless it says validation; "
        "± is half the 95 % interval of the mean over the seeds. The gap is the training accuracy of the kept epoch, "
        "as measured while training, less the test accuracy. Reported figures are the reports', some of which picked "
        "their epoch on the test set. A stand-in is of another system than the report's, or of a part of it. A row's "
        "command is `python launch.py --config configs/CONFIG.py`.\n\n"
        f"![Test accuracy less the reported one, with its interval]({PICTURE})\n"
    )
    for report, title in REPORTS.items():
        lines = [_line(folder, systems, name, rows) for name in systems if name.startswith(report)]
        text += (
            f"\n## Report {report}: {title}\n\n{markdown_table(HEAD, lines, figures=range(2, 8))}"
        )
    done = [_line(folder, systems, name, rows, link=f"{folder.name}/")[:SHORT] for name in rows]
    return (
        text,
        f"{markdown_table(HEAD[:SHORT], done, figures=range(2, SHORT))}\n{_summary(folder, systems, rows)}\n",
    )


def _read(folder: Path) -> tuple[dict[str, dict[str, str]], dict[str, compare.Row]]:
    """The systems by their row's name, and our rows of those that have runs."""
    systems = {system["row"]: system for system in _systems(folder)}
    for name, system in systems.items():
        other = system["ours"].removeprefix(SAME)
        if system["ours"].startswith(SAME) and (
            other not in systems or systems[other]["ours"].startswith(SAME)
        ):
            raise RunError(
                f"{folder / SYSTEMS}: row {name} has the runs of row {other}, which has none of its own."
            )
    return systems, {name: row for name in systems if (row := _row(folder, systems, name))}


def _systems(folder: Path) -> list[dict[str, str]]:
    file = folder / SYSTEMS
    if not file.exists():
        raise RunError(
            f"{file} is missing: give the folder of the published results, as in imgcls reproduce results."
        )
    with open(file, newline="") as lines:
        reader = csv.DictReader(lines)
        if reader.fieldnames != COLUMNS:
            raise RunError(f"{file} has the columns {reader.fieldnames}; it should have {COLUMNS}.")
        return list(reader)


def _path(folder: Path, systems: Systems, name: str) -> Path:
    """Where the row's runs are, which may be another row's."""
    ours = systems[name]["ours"]
    return folder / (systems[ours.removeprefix(SAME)]["ours"] if ours.startswith(SAME) else ours)


def _row(folder: Path, systems: Systems, name: str) -> compare.Row | None:
    """Of the system's runs, None where there are none."""
    system, path = systems[name], _path(folder, systems, name)
    runs = [path] if (path / TEST).exists() else sorted(path.parent.glob(f"{path.name}-seed*"))
    if not runs or path.suffix:
        return None
    reported = {key: float(system[key]) for key in ("accuracy", "gap", "epochs") if system[key]}
    (row,) = compare.summarize(
        [(f"{name} {system['system']}", reported, [RunFolder(run) for run in runs])]
    )
    return row


def _line(
    folder: Path, systems: Systems, name: str, rows: Rows, *, link: str = ""
) -> Sequence[str]:
    """The cells of HEAD. link: the way from the table to the folder."""
    system, row, path = systems[name], rows.get(name), _path(folder, systems, name)
    ours, gap = f"*waits for {system['waits for']}*", _reported(system["gap"], "+.1f")
    seeds, loss, epochs, device = "", "", _reported(system["epochs"], "g"), ""
    if row:
        target = path if path.exists() else path.parent / "table.md"
        ours = f"[{row.accuracy_text}]({link}{target.relative_to(folder)}){_remark(system)}"
        gap = _beside(f"{row.gap:+.1f}", gap) if gap and row.gap is not None else gap
        epochs = _beside(f"{row.epochs:.1f}".removesuffix(".0"), epochs)
        seeds, loss, device = str(row.seeds), f"{row.loss:.4f}", row.device
    elif path.is_file():
        ours = f"[shown]({link}{path.relative_to(folder)}){_remark(system)}"
    figures = map(Markdown, (system["reported"], ours, gap, seeds, loss, epochs))
    config = Markdown(f"`{system['config']}`")
    return (
        Markdown(name),
        Markdown(system["system"]),
        *figures,
        device,
        Markdown(system["choices"]),
        config,
    )


def _reported(figure: str, form: str) -> str:
    return f"reported {float(figure):{form}}" if figure else ""


def _beside(ours: str, reported: str) -> str:
    return f"{ours}; {reported}" if reported else ours


def _remark(system: Mapping[str, str]) -> str:
    """What has to be said of a row's figure, or of what it shows."""
    if system["ours"].startswith(SAME):
        return f", the runs of {system['ours'].removeprefix(SAME)}"
    return f", stand-in: {system['stand-in']}" if system["stand-in"] else ""


def _kind(folder: Path, systems: Systems, name: str, rows: Rows) -> str:
    """The count of the summary in which a row is: a key of KINDS, or "waits"."""
    system = systems[name]
    if name not in rows and not (folder / system["ours"]).is_file():
        return "waits"
    if name not in rows:
        return "shown of a stand-in" if system["stand-in"] else "shown"
    if system["ours"].startswith(SAME):
        return "the same runs"
    if system["stand-in"]:
        return "figure of a stand-in"
    return "figure" if "accuracy" in rows[name].reported else "figure alone"


def _summary(folder: Path, systems: Systems, rows: Rows) -> str:
    kinds = collections.Counter(_kind(folder, systems, name, rows) for name in systems)
    waiting = collections.Counter(
        system["waits for"]
        for name, system in systems.items()
        if _kind(folder, systems, name, rows) == "waits"
    )
    parts = [f"{kinds[kind]} {words}" for kind, words in KINDS.items() if kinds[kind]]
    waits = ", ".join(f"{count} for {what}" for what, count in waiting.most_common())
    return (
        f"Of {len(systems)} rows {', '.join(parts) or 'none has a figure'}; "
        f"{f'{waiting.total()} wait: {waits}' if waiting else 'none waits'}."
    )


def between(readme: Path) -> str:
    """The table that stands in the project's README."""
    return _around(readme)[1]


def _write_between(readme: Path, table: str) -> None:
    before, _, after = _around(readme)
    write_atomically(readme, f"{before}{BEGIN}\n{table}\n{END}{after}".encode())


def _around(readme: Path) -> tuple[str, str, str]:
    """What is before the table, the table, and what is after it."""
    text = readme.read_text()
    if BEGIN not in text or END not in text:
        raise RunError(
            f"{readme} has no place for the table: the lines {BEGIN.strip()!r} and {END.strip()!r}."
        )
    before, rest = text.split(BEGIN)
    table, after = rest.split(END)
    return before, table, after
