"""Tables as text: in Markdown, in LaTeX for papers, and in CSV. Cells are plain text, which each of them escapes."""

import csv
import html
import io
from collections.abc import Container, Iterable, Sequence

from imgcls_jax.errors import printable

LATEX = {character: f"\\{character}" for character in "%&_#${}"} | {"±": r"$\pm$", "–": "--"}
LATEX |= {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}"}
LATEX |= {"<": r"\textless{}", ">": r"\textgreater{}"}
FORMULAS = ("=", "+", "-", "@")  # with which a spreadsheet takes a text for a formula


class Markdown(str):
    """Text that is Markdown already, and is left as it is."""


def escape(text: object) -> Markdown:
    """Plain text as Markdown that shows it, in one line: no markup, link, code, HTML or column comes of it."""
    if isinstance(text, Markdown):
        return text
    escaped = "".join(
        f"\\{character}" if character in "\\`*[]|" else character for character in printable(text)
    )
    return Markdown(html.escape(escaped, quote=False))


def code(text: object) -> Markdown:
    """Plain text in a fixed width; tables take a bar for their own even there."""
    return Markdown("`" + printable(text).replace("`", "'").replace("|", "\\|") + "`")


def markdown_table(
    head: Sequence[str], rows: Iterable[Sequence[object]], *, figures: Container[int] = ()
) -> str:
    """Of cells of plain text or Markdown. figures: the columns of numbers, which are at the right, counted from 0."""
    rule = [Markdown("---:" if column in figures else "---") for column in range(len(head))]
    return "".join(map(markdown_row, (head, rule, *rows)))


def markdown_row(cells: Sequence[object]) -> str:
    """A line of such a table."""
    return "| " + " | ".join(map(escape, cells)) + " |\n"


def latex_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, figures: Container[int] = ()
) -> str:
    r"""A tabular of cells of plain text, for \usepackage{booktabs}."""
    columns = "".join("r" if column in figures else "l" for column in range(len(head)))
    table = str.maketrans(LATEX)
    first, *others = (
        " & ".join(printable(cell).translate(table) for cell in line) for line in (head, *rows)
    )
    body = "".join(f"{line} \\\\\n" for line in others)
    head = f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{first} \\\\\n\\midrule\n"
    return f"{head}{body}\\bottomrule\n\\end{{tabular}}\n"


def csv_table(rows: Iterable[Sequence[object]]) -> str:
    """Of numbers, texts and None, which stays empty. A text that a spreadsheet would compute has a quote in front."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(
        [_csv_cell(cell) for cell in row] for row in rows
    )
    return file.getvalue()


def _csv_cell(cell: object) -> object:
    if not isinstance(cell, str):
        return cell
    text = printable(cell)
    return f"'{text}" if text.lstrip().startswith(FORMULAS) else text
