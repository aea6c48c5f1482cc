"""Nothing that is read can run code, leave its folder, or write markup into a page.

Servers of tests listen to this machine only.
"""

import ast
import os
import pickle
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from imgcls_jax import data
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation.predict import Predictor
from imgcls_jax.pretrained import formats
from imgcls_jax.reporting import page, plain_tables, run_report, tables
from imgcls_jax.run.folder import RunFolder
from tests.badinput.test_commands import finished  # noqa: F401  a fixture
from tests.badinput.test_config import changed
from tests.badinput.test_sources import FORMS

ROOT = Path(__file__).parents[2]
WEIGHTS = ROOT / "tests" / "pretrained" / "files"
NAMED: list[str] = []  # what pickles named while `watching`
WATCHING: list[bool] = []


def _hook(event, arguments):
    if WATCHING and event == "pickle.find_class":
        NAMED.append(".".join(map(str, arguments)))


sys.addaudithook(_hook)


@pytest.fixture
def watching(monkeypatch):
    """The names that are unpickled, by Python's audit events, which C code raises too."""
    NAMED.clear()
    WATCHING.append(True)
    yield NAMED
    WATCHING.clear()


class Planted:
    def __reduce__(self):
        return os.getcwd, ()


def test_the_watch_would_notice(watching):
    pickle.loads(pickle.dumps(Planted()))
    assert watching == ["posix.getcwd"]


@pytest.mark.parametrize("form", FORMS)
def test_no_data_set_is_unpickled(form, watching, tmp_path):
    source, write = FORMS[form]
    options = {
        "data.source": source,
        "data.name": "tiny",
        "data.path": str(write(tmp_path)),
    }
    config = changed(
        **options, **{"data.validation_size": 3, "data.cache": str(tmp_path / "cache")}
    ).data
    for _ in range(2):  # the second time from the cache
        assert len(data.load(config).train)
    assert not watching


def test_no_run_folder_is_unpickled(watching, finished):  # noqa: F811
    run = RunFolder(finished / "whole")
    Predictor(run)
    assert len(run.predictions[0]) and run.history and not watching


@pytest.mark.parametrize("name", ["zip", "legacy", "nested", "nested_legacy", "whole_model"])
def test_no_file_of_weights_is_unpickled(name, watching):
    try:
        formats.read(WEIGHTS / f"{name}.pth")
    except UserError:
        assert name == "whole_model"
    assert not watching


def test_pickles_in_the_place_of_arrays(tried, tmp_path, watching, finished):  # noqa: F811
    """In an .npz file of data and of a run, as a checkpoint's array, and as a file of weights."""
    planted = np.array([Planted()] * 3, dtype=object)
    np.savez(tmp_path / "a.npz", images=planted, labels=np.zeros(3, np.int32))
    tried.refuses(
        data.load, changed(**{"data.source": "npz", "data.path": str(tmp_path / "a.npz")}).data
    )
    (tmp_path / "w.pth").write_bytes(pickle.dumps({"a": Planted()}))
    tried.refuses(formats.read, tmp_path / "w.pth")
    shutil.copytree(finished / "whole", tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    np.savez(run.path / "predictions.npz", probabilities=planted, labels=np.zeros(3, np.int32))
    tried.refuses(lambda: run.predictions)
    for file in (run.path / "checkpoints").rglob("*"):
        if file.is_file():
            file.write_bytes(pickle.dumps(Planted()))
    tried.refuses(Predictor, run)
    assert not watching


# Calls that run what they read, write where an archive says, or start a shell.
FORBIDDEN = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "os.system",
    "os.popen",
    "tempfile.mktemp",
    "pickle.load",
    "pickle.loads",
    "pickle.Unpickler",
    "marshal.loads",
    "shelve.open",
    "dill.loads",
    "joblib.load",
    "torch.load",
    "pandas.read_pickle",
    "yaml.load",
    "yaml.unsafe_load",
    "shutil.unpack_archive",
}
METHODS = {"extract", "extractall", "_extract_member"}


@pytest.mark.parametrize(
    "path", [ROOT / "launch.py", *sorted((ROOT / "imgcls_jax").rglob("*.py"))], ids=lambda p: p.name
)
def test_no_call_runs_what_it_is_given(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef):
            assert not any("Unpickler" in ast.unparse(base) for base in node.bases), node.name
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        assert name not in FORBIDDEN, f"line {node.lineno}: {name}"
        assert name.rpartition(".")[2] not in METHODS, f"line {node.lineno}: {name}"
        assert options.get("shell", "False") == "False", f"line {node.lineno}: a shell"
        if name in ("np.load", "numpy.load"):
            assert options.get("allow_pickle") == "False", f"line {node.lineno}: {name}"


HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)>'


def test_names_from_outside_are_text_on_every_page(tried, tmp_path, finished):  # noqa: F811
    """Of classes, runs, files, commands, devices and data sets."""
    shutil.copytree(finished / "whole", tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    environment, report, test = run.environment, run.data, run.test
    run.write_json(
        "environment.json",
        environment | {"device": HOSTILE, "command": HOSTILE, "versions": {HOSTILE: HOSTILE}},
    )
    names = [HOSTILE, *report["class_names"][1:]]
    run.write_json("data.json", report | {"class_names": names})
    test["per_class"][0]["name"] = test["confused_pairs"][0]["true"] = HOSTILE
    run.write_json("test.json", test)
    config = run.read_json("config.json")
    config["name"] = config["data"]["name"] = config["data"]["path"] = HOSTILE
    run.write_json("config.json", config)
    html = [
        run_report._header(run),
        run_report._data(run.data),
        run_report._environment(run.environment),
        run_report._config(run.read_json("config.json")),
        tables.per_class(run.test),
        tables.confused_pairs(run.test),
        page.page(HOSTILE, page.section(HOSTILE, page.table([HOSTILE], [[HOSTILE, HOSTILE]]))),
        page.image(np.zeros((4, 4, 1), np.uint8), HOSTILE, side=10),
        plain_tables.escape(HOSTILE),
    ]
    for part in html:
        assert "<script" not in part, part
        assert "<img src=x" not in part, part
    assert sum("&lt;script&gt;" in part for part in html) >= 4
    tried.harmless += len(html)


def test_servers_of_tests_listen_to_this_machine_alone():
    anywhere = re.compile(r"""["']0\.0\.0\.0["']|\(\(?["']["'], \d+\)|["']::["']""")
    for path in sorted((ROOT / "tests").rglob("*.py")):
        if path != Path(__file__):
            assert not anywhere.search(path.read_text()), path
    assert not any(
        "socketserver" in path.read_text() for path in (ROOT / "imgcls_jax").rglob("*.py")
    )
