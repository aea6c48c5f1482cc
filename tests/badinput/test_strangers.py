"""Run folders from a stranger: no command writes, reads or waits outside of them."""

import json
import os
import shutil

import pytest

from imgcls_jax import commands, data
from imgcls_jax.data import sources, tfds_reader
from imgcls_jax.errors import DataError
from imgcls_jax.reporting import index
from imgcls_jax.run import resuming
from tests.badinput.test_commands import MODES, finished, run  # noqa: F401  fixtures
from tests.badinput.test_config import changed
from tests.badinput.test_sources import FORMS


@pytest.fixture
def victim(tmp_path):
    """A file and an empty folder that nobody may touch."""
    (tmp_path / "mine").mkdir()
    path = tmp_path / "secret"
    path.write_text("secret")
    yield path
    assert path.read_text() == "secret" and not list((tmp_path / "mine").iterdir())


LINKS = [
    ".report.html.partial",
    "report.html",
    "export",
    "calibration.png",
    "config.json",
    "checkpoints/best",
    ".lock",
]


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("mode", MODES)
def test_a_link_that_leaves_the_folder_stops_every_command(
    mode,
    link,
    tried,
    run,  # noqa: F811
    victim,
    tmp_path,
):
    (run.path / link).unlink(missing_ok=True)
    (run.path / link).symlink_to(tmp_path / "mine" if link == "export" else victim)
    message = tried.refuses(MODES[mode], [str(run.path)])
    assert f"{link} is a link that leaves its folder" in message
    assert not (tmp_path / "results" / "run").exists()


@pytest.mark.parametrize("name", ["test.json", "dashboard.png", "checkpoints/pipe"])
@pytest.mark.parametrize("mode", MODES)
def test_a_pipe_stops_every_command(mode, name, tried, run):  # noqa: F811
    (run.path / name).unlink(missing_ok=True)
    os.mkfifo(run.path / name)
    assert f"{name} is a pipe" in tried.refuses(MODES[mode], [str(run.path)])


def test_an_index_is_not_written_through_links_and_leaves_out_runs_with_links(
    run,  # noqa: F811
    victim,
    tmp_path,
    caplog,
):
    shutil.copytree(run.path, tmp_path / "linked")
    (tmp_path / "linked" / "dashboard.png").unlink(missing_ok=True)
    (tmp_path / "linked" / "dashboard.png").symlink_to(victim)
    for name in (".index.html.partial", "index.html"):
        (tmp_path / name).symlink_to(victim)
    text = index.write(tmp_path).read_text()
    assert "run/report.html" in text and "linked/report.html" not in text
    assert "dashboard.png is a link that leaves its folder" in caplog.text


def test_what_is_published_is_not_written_through_links(run, victim, tmp_path, tried):  # noqa: F811
    target = tmp_path / "results" / "run"
    target.mkdir(parents=True)
    (target / "test.json").symlink_to(victim)
    assert "test.json is a link that leaves its folder" in tried.refuses(
        commands.publish.publish, [str(run.path)]
    )


def test_what_is_published_already(run, tried, tmp_path):  # noqa: F811
    commands.publish.publish([str(run.path)])
    assert "is published already" in tried.refuses(
        commands.publish.publish, [str(tmp_path / "results" / "run")]
    )


@pytest.mark.parametrize("form", FORMS)
def test_without_keep_no_cache_is_made(form, tmp_path):
    """Commands on run folders read data this way: the config may name a stranger's cache."""
    source, write = FORMS[form]
    options = {
        "data.source": source,
        "data.name": "tiny",
        "data.path": str(write(tmp_path)),
        "data.validation_size": 3,
    }
    config = changed(**options, **{"data.cache": str(tmp_path / "cache")}).data
    before = sorted(tmp_path.rglob("*"))
    splits = data.load(config, keep=False)
    assert sorted(tmp_path.rglob("*")) == before
    data.load(config)
    made = sorted(tmp_path.rglob("*"))
    assert data.load(config, keep=False).fingerprint == splits.fingerprint
    assert sorted(tmp_path.rglob("*")) == made


def test_a_command_makes_no_cache_where_a_config_says(run, tmp_path, monkeypatch):  # noqa: F811
    """Nor if the config has an unknown key that would allow it."""
    config = run.read_json("config.json")
    (tmp_path / "images").mkdir()
    FORMS["folder"][1](tmp_path / "images")
    config["data"] |= {
        "source": "folder",
        "path": str(tmp_path / "images"),
        "keep": True,
        "validation": 3,
        "train": 0,
    }
    config["data"]["cache"] = str(tmp_path / "cache")
    run.write_json("config.json", config)
    monkeypatch.setattr(resuming, "check_data", lambda run, splits: None)
    assert len(commands.runs.data_of(run).train)
    assert not (tmp_path / "cache").exists()


NAMES = [
    "huggingface:mnist",
    "kaggle:a/b",
    "../mnist",
    "/etc",
    "a/../../b",
    "mnist:3.0.1:x",
    "mnist\n",
    "",
    "a//b",
    "é",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_would_leave_tfds_folder_or_ask_another_service(
    name, tried, tmp_path, monkeypatch
):
    def fail(*arguments):
        pytest.fail("the name was used")

    monkeypatch.setattr(tfds_reader, "find_prepared", fail)
    monkeypatch.setattr(tfds_reader, "prepare", fail)
    config = changed(**{"data.source": "tfds", "data.name": name, "data.path": str(tmp_path)}).data
    assert "is no name of a TFDS data set" in tried.refuses(data.load, config)


@pytest.mark.parametrize(
    "name", ["mnist", "mnist:3.0.1", "emnist/letters", "a/b-1.0+x=2/c:1.0.0", "cifar10:3.*.*"]
)
def test_names_of_tfds(name):
    tfds_reader.check_name(name)


def test_a_command_has_tfds_prepare_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds_reader, "prepare", lambda *arguments: pytest.fail("it was prepared"))
    config = changed(
        **{"data.source": "tfds", "data.name": "mnist", "data.path": str(tmp_path)}
    ).data
    with pytest.raises(DataError, match="only training prepares it"):
        data.load(config, keep=False)


def test_a_description_that_names_a_module_to_import(tried, tmp_path, monkeypatch):
    FORMS["tfds"][1](tmp_path)
    (tmp_path / "planted").mkdir()
    (tmp_path / "planted" / "planted_features.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w')\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "planted")
    (file,) = tmp_path.rglob("features.json")
    description = json.loads(file.read_text())
    file.write_text(json.dumps(description | {"pythonClassName": "planted_features.Feature"}))
    config = changed(
        **{"data.source": "tfds", "data.name": "tiny", "data.path": str(tmp_path), "data.cache": ""}
    ).data
    assert "planted_features" in tried.refuses(data.load, config)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("source", ["idx", "cifar", "csv", "folder", "npz", "tfds"])
def test_a_pipe_as_a_data_set(source, tried, tmp_path):
    """As the path itself, and as each file of one."""
    os.mkfifo(tmp_path / "pipe")
    config = changed(
        **{"data.source": source, "data.path": str(tmp_path / "pipe"), "data.cache": ""}
    ).data
    tried.refuses(data.load, config)
    for number, form in enumerate(name for name, (kind, _) in FORMS.items() if kind == source):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = FORMS[form][1](folder)
        config = changed(
            **{"data.source": source, "data.name": "tiny", "data.path": str(path), "data.cache": ""}
        ).data
        config.validation = 3
        for file in [file for file in folder.rglob("*") if file.is_file()][:8]:
            content = file.read_bytes()
            file.unlink()
            os.mkfifo(file)
            tried.either(sources.SOURCES[source], config)
            file.unlink()
            file.write_bytes(content)
