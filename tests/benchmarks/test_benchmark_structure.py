"""The benchmark of structure: its counts by hand, and its table from the command."""

import re

from benchmarks import structure

SOURCE = """
# A comment is no line.
def absolute(x):
    return x if x > 0 else -x

values = [absolute(x) for x in (1, -2)]
"""


def test_density_by_hand(tmp_path):
    (tmp_path / "module.py").write_text(SOURCE)
    assert sorted(structure.count_tokens(SOURCE)) == [6, 9, 17]
    assert structure.density(tmp_path) == {
        "tokens a line, 90th percentile": 17,
        "conditional expressions in 1,000 lines": 333.3,
        "comprehensions in 1,000 lines": 333.3,
    }


def test_a_table_of_this_checkout(capsys):
    structure.main([])
    cells = re.findall(r"^\| (.+) \| ([\d.,]+) \|$", capsys.readouterr().out, re.M)
    figures = {measure: float(figure.replace(",", "")) for measure, figure in cells}
    assert len(figures) == 6
    files = figures["files from the first read of an image to the epoch's metrics"]
    functions = figures["functions on that way"]
    assert 5 < files < functions
    assert files < figures["functions in the epoch alone"] < functions
