"""Tables as text: in Markdown, in LaTeX for papers, and in CSV. Cells are plain text, and escaped."""

import csv
import html
import io
from collections.abc import Container, Iterable, Sequence

from imgcls_jax.errors import FORMULAS, printable

MARKDOWN_SPECIAL = "\\`*[]|"
LATEX = {character: f"\\{character}" for character in "%&_#${}"}
LATEX |= {"±": r"$\pm$", "–": "--"}
LATEX |= {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}"}
LATEX |= {"<": r"\textless{}", ">": r"\textgreater{}"}
LATEX_TABLE = str.maketrans(LATEX)


class Markdown(str):
    """Text that is Markdown already, and is left as it is."""


def escape(text: object) -> Markdown:
    """Returns Markdown that shows the plain text in one line, without markup, links or HTML."""
    if isinstance(text, Markdown):
        return text
    escaped = ""
    for character in printable(text):
        if character in MARKDOWN_SPECIAL:
            escaped += "\\"
        escaped += character
    return Markdown(html.escape(escaped, quote=False))


def code(text: object) -> Markdown:
    """Returns Markdown that shows the plain text in a fixed width."""
    # Even in code, tables take a bar for the end of a cell.
    escaped = printable(text).replace("`", "'").replace("|", "\\|")
    return Markdown(f"`{escaped}`")


def markdown_table(
    head: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    figures: Container[int] = (),
) -> str:
    """A table of cells of plain text or Markdown.

    figures: columns, counted from 0, that hold numbers and are aligned at the right.
    """
    rule = []
    for column in range(len(head)):
        rule.append(Markdown("---:" if column in figures else "---"))
    return "".join(map(markdown_row, (head, rule, *rows)))


def markdown_row(cells: Sequence[object]) -> str:
    """A line of such a table."""
    return "| " + " | ".join(map(escape, cells)) + " |\n"


def latex_table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    figures: Container[int] = (),
) -> str:
    r"""A tabular of cells of plain text, for \usepackage{booktabs}; figures: as of markdown_table."""
    alignment = ""
    for column in range(len(head)):
        alignment += "r" if column in figures else "l"
    lines = [
        f"\\begin{{tabular}}{{{alignment}}}",
        "\\toprule",
        _latex_row(head),
        "\\midrule",
        *map(_latex_row, rows),
        "\\bottomrule",
        "\\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _latex_row(cells: Sequence[str]) -> str:
    escaped = [printable(cell).translate(LATEX_TABLE) for cell in cells]
    return " & ".join(escaped) + r" \\"


def csv_table(rows: Iterable[Sequence[object]]) -> str:
    """A table of numbers, texts and None, which stays empty.

    A text that a spreadsheet would take for a formula gets a quote in front.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    for row in rows:
        writer.writerow([_csv_cell(cell) for cell in row])
    return file.getvalue()


def _csv_cell(cell: object) -> object:
    if not isinstance(cell, str):
        return cell
    text = printable(cell)
    if text.lstrip().startswith(FORMULAS):
        return f"'{text}"
    return text
