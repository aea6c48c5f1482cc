"""The reproduction table: every row of the reports that this project repeats, and our figures."""

import collections
import csv
import dataclasses
import glob
from collections.abc import Mapping, Sequence
from pathlib import Path

from imgcls_jax.errors import RunError
from imgcls_jax.files import write_atomically
from imgcls_jax.reporting.compare_rows import Group, Row, summarize
from imgcls_jax.reporting.plain_tables import Markdown, markdown_table
from imgcls_jax.run.ensemble_folder import EnsembleFolder
from imgcls_jax.run.folder import ENSEMBLE, TEST, RunFolder

SYSTEMS = "systems.csv"  # a line for each row of the reports
COLUMNS = [
    "row",  # the reports' rows have a letter and a number; what is after a comma makes a row our own
    "system",
    "reported",  # the report's figures as text; the next three as numbers
    "accuracy",
    "gap",  # percentage points
    "epochs",
    "ours",  # see System.ours
    "stand-in",
    "choices",  # what the recipe has that the report does not say
    "config",
    "waits for",
]
TABLE = "README.md"
PICTURE = "reproduction.png"
HEAD = (
    "Row",
    "System",
    "Reported, %",
    "Ours, %",
    "Gap, pp",
    "Seeds",
    "Loss",
    "Epochs",
    "Device",
    "Ours in the recipe",
    "Config",
)
SHORT = 7  # the first columns of HEAD, which the project's README has
SAME = "row "
# In the project's README the table, of rows with figures of the reports' own systems, is between
# these lines.
BEGIN = "<!-- reproduction table: python -m imgcls_jax reproduce results -->\n"
END = "<!-- end of the table -->\n"
# The rows of each kind, counted separately in the summary.
KINDS = {
    "figure": "with a figure beside a reported one",
    "the same runs": "with another row's runs",
    "figure alone": "with a figure where none was reported",
    "figure of a stand-in": "with a stand-in's figure",
    "shown": "shown",
    "shown of a stand-in": "shown of a stand-in",
}
WAITS = "waits"
Line = Mapping[str, str]  # of systems.csv, by its columns
REPORTS = {
    "A": "a hybrid of ResNet-18 and GoogLeNet with LoRA",
    "B": "four models on MNIST",
    "C": "an SE-ResNet under five million parameters",
    "D": "four levels on CIFAR-10",
    "E": "from a small CNN to EfficientNetV2",
}
INTRODUCTION = (
    "Accuracies are of the test set, in percent, unless it says validation; in parentheses is the 95 "
    "% interval of the mean over the seeds. The gap is the training accuracy of the kept epoch, as "
    "measured while training, less the test accuracy. Reported figures are the reports', some of "
    "which picked their epoch on the test set. A stand-in is of another system than the report's, "
    "or of a part of it. A row's command is `python launch.py --config configs/CONFIG.py`."
)


@dataclasses.dataclass(frozen=True)
class System:
    """A row of the reports: a line of systems.csv, and what we have of it.

    ours: what "ours" names in the folder of results: a published run or ensemble, what is before
    -seedN of the runs of several seeds, or a file that shows what is no figure. is_same: whether
    these are another row's runs. figures: the means of our runs; None without runs.
    """

    line: Line
    ours: Path
    is_same: bool
    figures: Row | None

    @property
    def name(self) -> str:
        return self.line["row"]

    @property
    def is_our_own(self) -> bool:
        """Whether no report has the row: it is beside one of theirs, such as "C1, 8 epochs"."""
        return "," in self.name

    @property
    def stand_in(self) -> str:
        """What our figure is of, if not of the report's system or not of all of it."""
        return self.line["stand-in"]

    @property
    def waits_for(self) -> str:
        return self.line["waits for"]

    @property
    def kind(self) -> str:
        """A key of KINDS, or WAITS."""
        if self.figures is None:
            return self._kind_without_figures()
        if self.is_same:
            return "the same runs"
        if self.stand_in:
            return "figure of a stand-in"
        if "accuracy" in self.figures.reported:
            return "figure"
        return "figure alone"

    def _kind_without_figures(self) -> str:
        if self.is_same or not self.ours.is_file():
            return WAITS
        if self.stand_in:
            return "shown of a stand-in"
        return "shown"


def write(folder: Path, readme: Path) -> str:
    """Writes README.md and a picture into `folder`, and the rows with figures into `readme`.

    folder: of the published results, with systems.csv. Returns the summary. Raises RunError if the
    folder has no such file or the file is not valid.
    """
    from imgcls_jax.reporting.plots import comparison, style

    systems = _read(folder)
    table, short_table = render(folder)
    compared = [system.figures for system in systems if system.kind == "figure"]
    style.save(comparison.differences(compared), folder / PICTURE)
    write_atomically(folder / TABLE, table.encode())
    before, _, after = _split(readme)
    text = f"{before}{BEGIN}\n{short_table}\n{END}{after}"
    write_atomically(readme, text.encode())
    return _summary(systems)


def render(folder: Path) -> tuple[str, str]:
    """Returns `folder`/README.md and the table for the project's README, as `write` writes them."""
    systems = _read(folder)
    return _page(folder, systems), _short_table(folder, systems)


def between(readme: Path) -> str:
    """Returns the table in the project's README."""
    _, table, _ = _split(readme)
    return table


def _page(folder: Path, systems: Sequence[System]) -> str:
    parts = [
        "# Every row of the five reports, and ours\n",
        f"Written by `python -m imgcls_jax reproduce {folder.name}` from the runs published here "
        f"and from [{SYSTEMS}]({SYSTEMS}); with `--verify` every figure is computed again from the "
        f"predictions and the labels. {_summary(systems)}\n",
        f"{INTRODUCTION}\n",
        f"![Test accuracy less the reported one, with its interval]({PICTURE})\n",
    ]
    for report, title in REPORTS.items():
        lines = []
        for system in systems:
            if system.name.startswith(report):
                lines.append(_cells(system, folder))
        parts.append(f"## Report {report}: {title}\n")
        parts.append(markdown_table(HEAD, lines, figures=range(2, 8)))
    return "\n".join(parts)


def _short_table(folder: Path, systems: Sequence[System]) -> str:
    lines = []
    for system in systems:
        has_figure = system.figures is not None and not system.stand_in
        if has_figure and not system.is_our_own:
            lines.append(_cells(system, folder, link=f"{folder.name}/")[:SHORT])
    table = markdown_table(HEAD[:SHORT], lines, figures=range(2, SHORT))
    return f"{table}\n{_summary(systems)}\n"


def _read(folder: Path) -> list[System]:
    lines = {line["row"]: line for line in _read_lines(folder)}
    systems = []
    for name, line in lines.items():
        ours = line["ours"]
        is_same = ours.startswith(SAME)
        if is_same:
            ours = _runs_of_other(folder, lines, name)
        path = folder / ours
        systems.append(System(line, path, is_same, _figures(line, path)))
    return systems


def _read_lines(folder: Path) -> list[dict[str, str]]:
    file = folder / SYSTEMS
    if not file.exists():
        raise RunError(
            f"{file} is missing: give the folder of the published results, as in imgcls reproduce "
            "results."
        )
    with open(file, newline="") as lines:
        reader = csv.DictReader(lines)
        if reader.fieldnames != COLUMNS:
            raise RunError(f"{file} has the columns {reader.fieldnames}; it should have {COLUMNS}.")
        return list(reader)


def _runs_of_other(folder: Path, lines: Mapping[str, Line], name: str) -> str:
    """The runs of the row that the row `name` refers to."""
    other = lines[name]["ours"].removeprefix(SAME)
    if other not in lines or lines[other]["ours"].startswith(SAME):
        raise RunError(
            f"{folder / SYSTEMS}: row {name} has the runs of row {other}, which has none of its "
            "own."
        )
    return lines[other]["ours"]


def _figures(line: Line, path: Path) -> Row | None:
    """The means of what is at the path beside the reported figures; None without runs."""
    runs = runs_at(path)
    if not runs:
        return None
    reported = {}
    for key in ("accuracy", "gap", "epochs"):
        if line[key]:
            reported[key] = float(line[key])
    label = f"{line['row']} {line['system']}"
    (row,) = summarize([Group(label, reported, runs)])
    return row


def runs_at(path: Path) -> list[RunFolder]:
    """The run or the ensemble at the path, or the runs of several seeds; none if it is a file."""
    if path.is_file():
        return []
    if (path / TEST).exists():
        return [RunFolder(path)]
    if (path / ENSEMBLE).exists():
        return [EnsembleFolder(path)]
    return [RunFolder(run) for run in sorted(path.parent.glob(f"{glob.escape(path.name)}-seed*"))]


def _cells(system: System, folder: Path, *, link: str = "") -> list[str]:
    """The cells of HEAD.

    link: the path from the table to the folder.
    """
    line = system.line
    ours = f"*waits for {system.waits_for}*"
    if system.figures is not None:
        target = system.ours
        if not target.exists():  # runs of several seeds
            target = target.parent / "table.md"
        ours = f"[{system.figures.accuracy_text}]({link}{target.relative_to(folder)})"
        ours += _remark(system)
    elif system.ours.is_file():
        ours = f"[shown]({link}{system.ours.relative_to(folder)}){_remark(system)}"
    gap, seeds, loss, epochs, device = _measured_cells(system)
    return [
        Markdown(system.name),
        Markdown(line["system"]),
        Markdown(line["reported"]),
        Markdown(ours),
        Markdown(gap),
        Markdown(seeds),
        Markdown(loss),
        Markdown(epochs),
        device,
        Markdown(line["choices"]),
        Markdown(f"`{line['config']}`"),
    ]


def _measured_cells(system: System) -> tuple[str, str, str, str, str]:
    """Gap, seeds, loss, epochs and device; gap and epochs with what was reported."""
    gap = _reported(system.line["gap"], "+.1f")
    epochs = _reported(system.line["epochs"], "g")
    row = system.figures
    if row is None:
        return gap, "", "", epochs, ""
    if gap and row.gap is not None:
        gap = f"{row.gap:+.1f}; {gap}"
    if row.epochs is not None:
        ours = f"{row.epochs:.1f}".removesuffix(".0")
        epochs = "; ".join(filter(None, (ours, epochs)))
    return gap, str(row.seeds), f"{row.loss:.4f}", epochs, row.device


def _reported(figure: str, number_format: str) -> str:
    if not figure:
        return ""
    return f"reported {float(figure):{number_format}}"


def _remark(system: System) -> str:
    """What has to be said of a row's figure or of what it shows."""
    if system.is_same:
        return f", the runs of {system.line['ours'].removeprefix(SAME)}"
    if system.stand_in:
        return f", stand-in: {system.stand_in}"
    return ""


def _summary(systems: Sequence[System]) -> str:
    """How many rows of the reports are of each kind, and how many rows are our own."""
    rows = [system for system in systems if not system.is_our_own]
    kinds = collections.Counter(system.kind for system in rows)
    parts = [f"{kinds[kind]} {words}" for kind, words in KINDS.items() if kinds[kind]]
    text = f"{len(rows)} rows: {', '.join(parts) or 'none with a figure'}"
    waiting = collections.Counter(system.waits_for for system in rows if system.kind == WAITS)
    if waiting:
        counts = ", ".join(f"{count} for {reason}" for reason, count in waiting.most_common())
        text += f"; {waiting.total()} waiting: {counts}"
    if len(rows) < len(systems):
        text += f". Beside them: {len(systems) - len(rows)} of our own"
    return f"{text}."


def _split(readme: Path) -> tuple[str, str, str]:
    """What is before the table in the project's README, the table, and what is after it."""
    text = readme.read_text()
    if BEGIN not in text or END not in text:
        raise RunError(
            f"{readme} has no place for the table: the lines {BEGIN.strip()!r} and {END.strip()!r}."
        )
    before, rest = text.split(BEGIN)
    table, after = rest.split(END)
    return before, table, after
