"""The reproduction table: every row of the reports that this project repeats, and what came of it here."""

import collections
import csv
from collections.abc import Sequence
from pathlib import Path

from imgcls_jax.errors import RunError
from imgcls_jax.reporting import compare
from imgcls_jax.reporting.plain_tables import markdown_table
from imgcls_jax.run_folder import TEST, RunFolder, write_atomically

SYSTEMS = "systems.csv"  # a line for each row of the reports
COLUMNS = ["row", "system", "reported", "accuracy", "ours", "config", "waits for"]
TABLE, PICTURE = "README.md", "reproduction.png"
HEAD = ("Row", "System", "Reported, %", "Ours, %", "Seeds", "Loss", "Epochs", "Device", "Config")
# In the project's README the table stands between these lines.
BEGIN, END = "<!-- reproduction table: python launch.py --mode reproduce results -->\n", "<!-- end of the table -->\n"
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
    plots.save(compare_plots.differences([row for row in rows.values() if row.reported]), folder / PICTURE)
    write_atomically(folder / TABLE, whole.encode())
    _write_between(readme, short)
    return _summary(folder, systems, rows)


def render(folder: Path) -> tuple[str, str]:
    """What `write` writes: `folder`/README.md, and the table for the project's README."""
    systems, rows = _read(folder)
    text = (
        "# Every row of the five reports, and ours\n\n"
        f"Written by `python launch.py --mode reproduce {folder.name}` from the runs published here and from "
        f"[{SYSTEMS}]({SYSTEMS}). {_summary(folder, systems, rows)}\n\nAccuracies are of the test set, in percent, "
        "unless it says validation; ± is half the 95 % interval of the mean over the seeds. Reported figures are the "
        "reports', some of which picked their epoch on the test set. A row's command is `python launch.py --config "
        "configs/CONFIG.py`.\n\n"
        f"![Test accuracy less the reported one, with its interval]({PICTURE})\n"
    )
    for report, title in REPORTS.items():
        lines = [_line(folder, system, rows) for system in systems if system["row"].startswith(report)]
        text += f"\n## Report {report}: {title}\n\n{markdown_table(HEAD, lines, figures=range(2, 7))}"
    done = [_line(folder, system, rows, link=f"{folder.name}/")[:6] for system in systems if system["row"] in rows]
    return text, f"{markdown_table(HEAD[:6], done, figures=range(2, 6))}\n{_summary(folder, systems, rows)}\n"


def _read(folder: Path) -> tuple[list[dict[str, str]], dict[str, compare.Row]]:
    """The systems, and our rows of those that have runs."""
    systems = _systems(folder)
    return systems, {system["row"]: row for system in systems if (row := _row(folder, system))}


def _systems(folder: Path) -> list[dict[str, str]]:
    file = folder / SYSTEMS
    if not file.exists():
        raise RunError(f"{file} is missing: give the folder of the published results, as in --mode reproduce results.")
    with open(file, newline="") as lines:
        reader = csv.DictReader(lines)
        if reader.fieldnames != COLUMNS:
            raise RunError(f"{file} has the columns {reader.fieldnames}; it should have {COLUMNS}.")
        return list(reader)


def _row(folder: Path, system: dict[str, str]) -> compare.Row | None:
    """Of the system's runs, None where there are none."""
    path = folder / system["ours"]
    runs = [path] if (path / TEST).exists() else sorted(path.parent.glob(f"{path.name}-seed*"))
    if not runs or path.suffix:
        return None
    reported = {"accuracy": float(system["accuracy"])} if system["accuracy"] else {}
    (row,) = compare.summarize([(f"{system['row']} {system['system']}", reported, [RunFolder(run) for run in runs])])
    return row


def _line(folder: Path, system: dict[str, str], rows: dict[str, compare.Row], *, link: str = "") -> Sequence[str]:
    """The cells of HEAD. link: the way from the table to the folder."""
    row, path = rows.get(system["row"]), folder / system["ours"]
    ours, rest = f"*waits for {system['waits for']}*", ("", "", "", "")
    if row:
        target = path if path.exists() else path.parent / "table.md"
        ours = f"[{row.accuracy_text}]({link}{target.relative_to(folder)})"
        rest = (str(row.seeds), f"{row.loss:.4f}", f"{row.epochs:.1f}".removesuffix(".0"), row.device)
    elif path.is_file():
        ours = f"[shown]({link}{system['ours']})"
    return (system["row"], system["system"], system["reported"], ours, *rest, f"`{system['config']}`")


def _summary(folder: Path, systems: Sequence[dict[str, str]], rows: dict[str, compare.Row]) -> str:
    shown = [system for system in systems if system["row"] not in rows and (folder / system["ours"]).is_file()]
    waiting = collections.Counter(
        system["waits for"] for system in systems if system["row"] not in rows and system not in shown
    )
    waits = ", ".join(f"{count} for {what}" for what, count in waiting.most_common())
    return (
        f"Of {len(systems)} rows {len(rows)} have a figure and {len(shown)} are shown; "
        f"{f'{waiting.total()} wait: {waits}' if waiting else 'none waits'}."
    )


def _write_between(readme: Path, table: str) -> None:
    text = readme.read_text()
    if BEGIN not in text or END not in text:
        raise RunError(f"{readme} has no place for the table: the lines {BEGIN.strip()!r} and {END.strip()!r}.")
    before, rest = text.split(BEGIN)
    write_atomically(readme, f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}".encode())
