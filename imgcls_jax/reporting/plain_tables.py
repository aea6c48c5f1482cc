"""Tables as text: in Markdown, and in LaTeX for papers."""

from collections.abc import Container, Iterable, Sequence

LATEX = {character: f"\\{character}" for character in "%&_#$"} | {"±": r"$\pm$", "–": "--", "\\": r"\textbackslash{}"}


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]], *, figures: Container[int] = ()) -> str:
    """Of cells in Markdown. figures: the columns of numbers, which stand at the right, counted from 0."""
    rule = ["---:" if column in figures else "---" for column in range(len(head))]
    return "".join(map(markdown_row, (head, rule, *rows)))


def markdown_row(cells: Sequence[object]) -> str:
    """A line of such a table."""
    return "| " + " | ".join(map(str, cells)) + " |\n"


def latex_table(head: Sequence[str], rows: Iterable[Sequence[str]], *, figures: Container[int] = ()) -> str:
    r"""A tabular of cells of plain text, for \usepackage{booktabs}."""
    columns = "".join("r" if column in figures else "l" for column in range(len(head)))
    first, *others = (" & ".join(cell.translate(str.maketrans(LATEX)) for cell in line) for line in (head, *rows))
    body = "".join(f"{line} \\\\\n" for line in others)
    return (
        f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{first} \\\\\n\\midrule\n{body}\\bottomrule\n\\end{{tabular}}\n"
    )
