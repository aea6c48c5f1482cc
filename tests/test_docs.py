"""README and docs: short, linked, generated where they can be; and the notebook runs."""

import ast
import importlib.util
import os
import re
import tomllib
from pathlib import Path

import pytest
from limits import HANGS

import imgcls_jax

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)#]+)(?:#([^)]+))?\)")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_are_short_and_their_links_lead_somewhere(page):
    text = page.read_text()
    if page.name not in ("options.md", "commands.md"):  # which are generated
        assert len(text.splitlines()) <= 150
    for target, anchor in LINK.findall(text):
        if target.startswith("http"):
            continue
        file = page.parent / target
        assert file.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(file), f"{page.name} links to {target}#{anchor}"


def test_every_page_is_reached_from_the_readme_and_the_index():
    for index in (ROOT / "README.md", ROOT / "docs" / "README.md"):
        linked = {Path(target).name for target, _ in LINK.findall(index.read_text())}
        for page in PAGES:
            if page.parent == ROOT / "docs" and page.name != "README.md":
                assert page.name in linked, f"{index} does not link to {page.name}"


def test_the_page_of_commands_is_what_their_parsers_say():
    path = ROOT / "docs" / "write_commands.py"
    spec = importlib.util.spec_from_file_location("write_commands", path)
    write_commands = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(write_commands)
    assert write_commands.FILE.read_text() == write_commands.render(), "run make docs"


def test_config_files_that_the_pages_name_are_there():
    for page in PAGES:
        for name in re.findall(r"\bconfigs/[a-z0-9_/]+\.py", page.read_text()):
            assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_the_citation_and_the_requirements_agree_with_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"\nversion: {imgcls_jax.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    for file in ROOT.glob("requirements*.txt"):
        (line,) = (text for text in file.read_text().splitlines() if not text.startswith("#"))
        extra = re.fullmatch(r"-e \.(?:\[(\w+)\])?", line)[1]
        assert extra is None or extra in project["optional-dependencies"], file.name
    assert (ROOT / "imgcls_jax" / "py.typed").exists()


@pytest.mark.filterwarnings("default")  # of Jupyter's packages
def test_the_notebook_runs(tmp_path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(ROOT / "docs" / "tour.ipynb", as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs for cell in code), "clear the outputs before committing"
    for cell in code:
        cell.source = cell.source.replace("../runs/tour", str(tmp_path / "tour"))
    client = nbclient.NotebookClient(
        notebook, timeout=HANGS, resources={"metadata": {"path": str(ROOT / "docs")}}
    )
    client.execute(env={**os.environ, "PYTHONPATH": str(ROOT)})
    accuracy, _ = ast.literal_eval(code[1].outputs[-1]["data"]["text/plain"])
    assert accuracy > 0.8 and (tmp_path / "tour" / "report.html").exists()
    pictures = [
        output for cell in code for output in cell.outputs if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 3
