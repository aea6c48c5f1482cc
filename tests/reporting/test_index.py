"""The index of a folder of runs: its rows, links and thumbnails, and what it leaves out."""

import html.parser
import json

import pytest
from PIL import Image

from imgcls_jax import commands
from imgcls_jax.errors import RunError
from imgcls_jax.reporting import index
from imgcls_jax.run.folder import CONFIG, ENSEMBLE, TEST, RunFolder


class Table(html.parser.HTMLParser):
    """The page's rows, each a list of its cells' texts; its links and its pictures."""

    def __init__(self, text):
        super().__init__()
        self.rows = []
        self.links = []
        self.pictures = []
        self.in_cell = False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.in_cell = True
        elif tag == "a":
            self.links.append(attributes["href"])
        elif tag == "img":
            self.pictures.append(attributes["src"])

    def handle_endtag(self, tag):
        self.in_cell &= tag not in ("td", "th")

    def handle_data(self, text):
        if self.in_cell:
            self.rows[-1][-1] += text


@pytest.fixture
def make(make_dataset, make_run):
    """make(name, **changes): a finished run, whose page is empty."""

    def make(name: str, **changes) -> RunFolder:
        run = make_run(make_dataset(60), name=name, **changes)
        (run.path / "report.html").touch()
        return run

    return make


def written(folder) -> Table:
    return Table(index.write(folder).read_text())


def test_a_row_says_what_the_run_is(make, tmp_path):
    results = {"accuracy": 0.98765, "loss": 0.04321, "trainable": 650}
    make("study/cnn-seed2", seed=2, results=results)
    head, row = written(tmp_path).rows
    assert dict(zip(head, row, strict=True)) == {
        "": "",
        "Name": "cnn-seed2",
        "Study": "study",
        "Data": "made & up",
        "Model": "cnn",
        "Accuracy": "98.77 %",
        "Loss": "0.0432",
        "Parameters": "93,322",
        "Trainable": "650",
        "Epochs": "4",
        "Time": "1 min 15 s",
        "Seed": "2",
        "Device": "cpu",
    }


def test_runs_of_studies_and_ensembles_are_found_at_any_depth(make, tmp_path):
    make("b")
    make("a/study/row-seed0")
    make("unfinished").path.joinpath("report.html").unlink()
    make("unfinished/checkpoints/inner")
    both = RunFolder(tmp_path / "both")
    both.path.mkdir()
    members = [
        {"parameters": 300, "weight": 0.5},
        {"parameters": 400, "weight": 0.5},
        {"parameters": 5, "weight": 0.0},
    ]
    both.write_json(ENSEMBLE, {"members": members, "test": {"accuracy": 0.75, "loss": 1.5}})
    (both.path / "report.html").touch()
    table = written(tmp_path)
    assert [row[1:4] for row in table.rows[1:]] == [
        ["row-seed0", "a/study", "made & up"],
        ["b", "\N{EN DASH}", "made & up"],
        ["both", "\N{EN DASH}", "\N{EN DASH}"],
    ]
    assert table.rows[-1][4:8] == ["ensemble of 2", "75.00 %", "1.5000", "700"]
    assert table.links == ["a/study/row-seed0/report.html", "b/report.html", "both/report.html"]


def test_thumbnails_are_small_and_may_be_missing(make, tmp_path):
    for name in ("one", "two", "three"):
        make(name)
    Image.effect_noise((1600, 1100), 64).save(tmp_path / "one" / "dashboard.png")
    (tmp_path / "two" / "dashboard.png").write_text("no picture")
    [picture] = written(tmp_path).pictures
    assert picture.startswith("data:image/jpeg;base64,") and len(picture) < 20_000


def test_a_link_is_quoted(make, tmp_path):
    make("50 % of #1?")
    assert written(tmp_path).links == ["50%20%25%20of%20%231%3F/report.html"]


def test_what_is_damaged_is_left_out_and_named(make, tmp_path, caplog):
    make("whole")
    for name in ("cut", "gone"):
        make(name)
    (tmp_path / "cut" / CONFIG).write_text(json.dumps({"seed": 1})[:-2])
    (tmp_path / "gone" / TEST).unlink()
    assert [row[1] for row in written(tmp_path).rows[1:]] == ["whole"]
    assert "cut/config.json is damaged" in caplog.text
    assert "gone/test.json is missing" in caplog.text


def test_published_runs_have_a_row_and_a_link_if_their_page_was_written(make, tmp_path):
    make("with")
    make("without").path.joinpath("report.html").unlink()
    Image.effect_noise((160, 110), 64).save(tmp_path / "without" / "dashboard.png")
    table = written(tmp_path)
    assert [row[1] for row in table.rows[1:]] == ["with", "without"]
    assert table.links == ["with/report.html"] and len(table.pictures) == 1


def test_what_a_killed_process_left_is_removed(make, tmp_path):
    make("run")
    partial = tmp_path / ".index.html.0123456789abcdef.partial"
    partial.write_text("<html>")
    index.write(tmp_path)
    assert not partial.exists()


def test_a_folder_without_finished_runs_is_refused(make, tmp_path):
    run = make("unfinished")
    (run.path / "report.html").unlink()
    (run.path / "checkpoints").mkdir()
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(RunError, match="no finished run below"):
            commands.index.index([str(folder)])
