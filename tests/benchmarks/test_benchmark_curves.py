"""Losses with and without Winograd of a config without a 3x3 layer for it: they are the same."""

from benchmarks import curves


def test_a_table_and_a_picture(tmp_path, capsys):
    picture = tmp_path / "new" / "curves.png"
    curves.main(["--configs", "quickstart", "--steps", "5", "--output", str(picture)])
    rows = [
        line.split(" | ")
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("| quickstart")
    ]
    assert [row[1] for row in rows] == ["1", "2", "5"]
    assert all(row[3] == "0.0e+00" for row in rows)
    assert 0 < float(rows[-1][4].rstrip(" |")) < 1e-3
    assert picture.stat().st_size > 10_000
