"""Names from anywhere in tables of Markdown, LaTeX and CSV: they are shown, and nothing comes of them."""

import csv
import html.parser

import pytest

from imgcls_jax.reporting import compare, model_card, robustness
from imgcls_jax.reporting.compare_rows import Group
from imgcls_jax.reporting.plain_tables import (
    Markdown,
    code,
    csv_table,
    escape,
    latex_table,
    markdown_table,
)

HOSTILE = {
    "html": "<img src=x onerror=alert(1)>",
    "script": "</td><script>alert(1)</script>",
    "entity": "&lt;b&gt; &amp; &#x3c;",
    "link": "[click](javascript:alert(1))",
    "picture": "![a](http://evil/x.png)",
    "column": "x | y | z",
    "lines": "x\n| y | z |\n\n# heading\r\n<b>",
    "code": "`a` ``b`` ```",
    "backslash": "\\[a\\](b) \\",
    "strong": "**a** *b*",
    "terminal": "\x1b[2J\x07",
    "invisible": "a\u202eb\u2028c",
}


class Text(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.cells = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data):
        if self.cells:
            self.cells[-1] += data


@pytest.mark.parametrize("name", HOSTILE)
def test_a_cell_of_markdown_shows_its_text(name):
    """By the renderer that TensorBoard brings along."""
    markdown = pytest.importorskip("markdown")
    table = markdown_table(["a", "b"], [[HOSTILE[name], 1]], figures=(1,))
    assert len(table.splitlines()) == 3
    rendered = Text(markdown.markdown(table, extensions=["tables"]))
    assert set(rendered.tags) <= {"table", "thead", "tbody", "tr", "th", "td"}
    shown = ""
    for character in HOSTILE[name]:
        if not character.isprintable():
            character = character.encode("unicode_escape").decode()
        shown += character
    assert rendered.cells[2].strip() == shown.strip()
    assert rendered.cells[3].strip() == "1"


def test_markdown_stays_where_it_is_meant():
    table = markdown_table(["a"], [[Markdown("**b**")], [code("c|`d`\n")], [2]])
    assert table.splitlines()[2:] == ["| **b** |", "| `c\\|'d'\\n` |", "| 2 |"]
    assert escape(escape("<")) == "&lt;"
    assert isinstance(escape("a"), Markdown)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("^^5cinput{/etc/passwd}", r"\textasciicircum{}\textasciicircum{}5cinput\{/etc/passwd\}"),
        ("\\input{a}", r"\textbackslash{}input\{a\}"),
        ("50 % of #1 & $x_1$ ~", r"50 \% of \#1 \& \$x\_1\$ \textasciitilde{}"),
        ("a\n\\end{tabular}", r"a\textbackslash{}n\textbackslash{}end\{tabular\}"),
        ("<a>", r"\textless{}a\textgreater{}"),
        ("1 ± 2 – 3", r"1 $\pm$ 2 -- 3"),
    ],
)
def test_a_cell_of_latex_is_text(text, expected):
    assert latex_table(["a"], [[text]]).splitlines()[4] == expected + r" \\"


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\t=1", "\r=1", "=cmd|'/C calc'!A0"]
)
def test_a_text_of_csv_is_no_formula(text):
    (row,) = csv.reader(csv_table([[text, "a,b\n", -1.5, None, 3]]).splitlines())
    assert row[0][0] in "'\\"
    assert row[1:] == ["a,b\\n", "-1.5", "", "3"]


def test_tables_of_runs_with_hostile_names(make_dataset, make_run, tmp_path):
    """Their names, which are those of folders, and their devices."""
    names = ['=HYPERLINK("http:evil","x")', "<img src=x onerror=alert(1)>", "x\n| y | z |"]
    devices = [
        "^^5cinput{/etc/passwd}",
        "=cmd|'/C calc'!A0",
        "[click](javascript:alert(1))\n\n# heading",
    ]
    test = make_dataset(30)
    groups = []
    for number, (name, device) in enumerate(zip(names, devices, strict=True)):
        run = make_run(test, name=f"run{number}", device=device)
        groups.append(Group(name, {}, [run]))
    (tmp_path / "out").mkdir()
    compare.write(groups, tmp_path / "out", title="# a\n<script>")
    text = (tmp_path / "out" / "table.md").read_text()
    for markup in ("<img", "<script", "[click]("):
        assert markup not in text
    assert sum(line.startswith("| ") for line in text.splitlines()) == 2 * (2 + 3)
    assert sum(line.startswith("#") for line in text.splitlines()) == 1
    rows = list(csv.reader((tmp_path / "out" / "table.csv").read_text().splitlines()))
    assert len(rows) == 4
    for row in rows:
        assert not any(cell.startswith(("=", "+", "@")) for cell in row)
    latex = (tmp_path / "out" / "table.tex").read_text()
    assert "\\input{" not in latex
    assert "^^" not in latex


def test_the_card_and_the_table_of_corruptions(make_dataset, make_run):
    changes = {"model": {"name": "`<i>`"}, "data": {"name": "[a](b)"}}
    run = make_run(make_dataset(30), name="<b>a", changes=changes)
    corruptions = {"=a|<b>\n": [0.5] * 5}
    results = {"examples": 9, "clean": 0.9, "mean": 0.5, "corruptions": corruptions}
    robustness.write(run, results)
    text = (run.path / "robustness.md").read_text() + model_card._summary(run)
    assert "`'<i>'`" in text  # in code, HTML is text
    assert text.count("<") == 1
    assert "[a](b)" not in text
    lines = (run.path / "robustness.csv").read_text().splitlines()
    assert lines[2].startswith("'=a|<b>\\n,1,0.5")
