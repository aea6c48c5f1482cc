"""The reproduction table: that it is what its command writes, and says what its sources say."""

import csv
import shutil
from pathlib import Path

import pytest

from imgcls_jax.errors import RunError
from imgcls_jax.reporting import compare, reproduction
from imgcls_jax.run.folder import RunFolder
from tests.test_structure import load

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"


@pytest.fixture(scope="module")
def systems():
    with open(RESULTS / reproduction.SYSTEMS, newline="") as lines:
        return list(csv.DictReader(lines))


def test_the_tables_are_what_the_command_writes():
    whole, short = reproduction.render(RESULTS)
    again = "run: python -m imgcls_jax reproduce results"
    assert (RESULTS / "README.md").read_text() == whole, again
    between = (
        (ROOT / "README.md").read_text().split(reproduction.BEGIN)[1].split(reproduction.END)[0]
    )
    assert between.strip() == short.strip(), again
    assert (RESULTS / reproduction.PICTURE).exists()


def test_every_row_names_a_config_and_a_run_or_what_it_waits_for(systems):
    for system in systems:
        assert (ROOT / "configs" / f"{system['config']}.py").exists(), system
        path = RESULTS / system["ours"]
        there = path.exists() or list(path.parent.glob(f"{path.name}-seed*"))
        assert there or system["ours"].startswith(reproduction.SAME) or system["waits for"], system
        assert system["row"][0] in reproduction.REPORTS


def test_reported_figures_are_those_of_the_studies(systems):
    checked = 0
    for system in systems:
        study, _, label = system["ours"].partition("/")
        config = Path("configs/studies", f"{study}.py")
        rows = load(config).rows if (ROOT / config).exists() else {}
        if system["accuracy"] and label in rows:
            reported = rows[label].reported
            assert float(system["accuracy"]) == reported.accuracy, system
            assert system["accuracy"] in system["reported"]
            for figure in ("gap", "epochs"):
                if figure in reported:
                    assert float(system[figure]) == reported[figure], system
                    checked += 1
    assert checked == 14


def test_a_figure_is_its_runs_mean(tmp_path, make_run, make_dataset):
    for seed, accuracy in enumerate((0.91, 0.93)):
        make_run(
            make_dataset(9), name=f"study/a-seed{seed}", seed=seed, results={"accuracy": accuracy}
        )
    lines = [
        "A1,one,91.5,91.5,-2,5,study/a,,widths,cifar_fast,",
        "A2,two,80,80,7,,study/b,,,cifar_fast,a GPU",
        "A3,three,,,,,page,,,cifar_fast,",
        "A4,four,,,,,page,a model of B,,cifar_fast,",
        "A5,five,91,91,,,row A1,,,cifar_fast,",
        "A6,six,named,,,,study/a,,,cifar_fast,",
        "A7,seven,90,90,,,study/a,the head alone,,cifar_fast,",
    ]
    (tmp_path / reproduction.SYSTEMS).write_text(
        "\n".join([",".join(reproduction.COLUMNS), *lines])
    )
    (tmp_path / "page").touch()
    readme = tmp_path / "FRONT.md"
    readme.write_text(f"before\n{reproduction.BEGIN}old\n{reproduction.END}after\n")
    summary = reproduction.write(tmp_path, readme)
    assert summary == (
        "Of 7 rows 1 have a figure beside a reported one, 1 has another row's runs, 1 have a figure where none was "
        "reported, 1 have a stand-in's figure, 1 are shown, 1 are shown of a stand-in; 1 wait: 1 for a GPU."
    )
    whole = (tmp_path / "README.md").read_text()
    gap = f"{compare.summarize([('', {}, [RunFolder(tmp_path / 'study' / f'a-seed{n}') for n in (0, 1)])])[0].gap:+.1f}"
    figure = "[92.00 ± 12.71](study/table.md)"
    assert (
        f"| A1 | one | 91.5 | {figure} | {gap}; reported -2.0 | 2 |" in whole
        and "; reported 5 |" in whole
    )
    assert (
        "| A2 | two | 80 | *waits for a GPU* | reported +7.0 |" in whole
        and "| [shown](page) |" in whole
    )
    assert (
        "| [shown](page), stand-in: a model of B |" in whole
        and f"| {figure}, the runs of A1 |" in whole
    )
    assert f"| seven | 90 | {figure}, stand-in: the head alone |" in whole and "| widths |" in whole
    text = readme.read_text()
    assert (
        text.startswith("before\n")
        and text.endswith("after\n")
        and "old" not in text
        and "| A1 | one |" in text
    )
    assert (tmp_path / reproduction.PICTURE).stat().st_size > 1000
    (tmp_path / reproduction.SYSTEMS).write_text(
        "\n".join([",".join(reproduction.COLUMNS), lines[4]])
    )
    with pytest.raises(RunError, match="row A5 has the runs of row A1, which has none"):
        reproduction.render(tmp_path)
    (tmp_path / reproduction.SYSTEMS).write_text(
        "\n".join([",".join(reproduction.COLUMNS), *lines])
    )
    readme.write_text("no place")
    with pytest.raises(RunError, match="has no place for the table"):
        reproduction.write(tmp_path, readme)


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(RunError, match=r"systems\.csv is missing"):
        reproduction.render(tmp_path)
    shutil.copy(RESULTS / "mnist_models" / "table.csv", tmp_path / reproduction.SYSTEMS)
    with pytest.raises(RunError, match="has the columns"):
        reproduction.render(tmp_path)
