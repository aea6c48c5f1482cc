"""Tables in Markdown."""

from collections.abc import Container, Iterable, Sequence


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]], *, figures: Container[int] = ()) -> str:
    """Of cells in Markdown. figures: the columns of numbers, which stand at the right, counted from 0."""
    rule = ["---:" if column in figures else "---" for column in range(len(head))]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in (head, rule, *rows))
