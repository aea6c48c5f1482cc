"""Every command on folders that are missing, foreign, unfinished or damaged: one line says so."""

import json
import shutil

import numpy as np
import pytest

from imgcls_jax import __main__, commands
from imgcls_jax.config.options import flat_options
from imgcls_jax.evaluation import cost
from imgcls_jax.evaluation import predict as predict_module
from imgcls_jax.reporting import calibration, explain, robustness, run_report, unknown
from imgcls_jax.reporting.plots import style
from imgcls_jax.run import resuming
from imgcls_jax.run.folder import RunFolder
from imgcls_jax.training import recorder
from tests.badinput.test_config import changed


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small finished run, its copy, and the ensemble of both."""
    folder = tmp_path_factory.mktemp("runs")
    small = {
        "data.source": "digits",
        "data.cache": "",
        "model.name": "attention",
        "data.train_size": 100,
        "train.epochs": 1,
    }
    small |= {"train.batch_size": 20, "train.eval_batch_size": 100}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recorder, "write_pictures", lambda run: None)
        commands.train.train(changed(**small), folder / "whole")
    shutil.copytree(folder / "whole", folder / "other")
    commands.ensemble.ensemble(
        [str(folder / "whole"), str(folder / "other")], workdir=folder / "both"
    )
    return folder


@pytest.fixture
def run(finished, tmp_path, monkeypatch):
    """A copy of it that may be damaged; what is published goes to tmp_path."""
    shutil.copytree(finished / "whole", tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    return RunFolder(tmp_path / "run")


def predict(folders):
    commands.predict.predict(*folders, ["nothing.png"])


def audit(folders):
    commands.audit.audit_run(RunFolder(*folders), "audit")


def ensemble(folders):
    commands.ensemble.ensemble([*folders, *folders[:1]], workdir="both")


MODES = {
    "publish": commands.publish.publish,
    "compare": commands.compare.compare,
    "report": commands.report.report,
    "robustness": commands.robustness.robustness,
    "unknown": commands.unknown.unknown,
    "explain": lambda folders: commands.explain.explain(folders, method="saliency"),
    "export": commands.export.export,
    "ensemble": ensemble,
    "predict": predict,
    "audit": audit,
}
FOLDERS = {
    "missing": lambda path: None,
    "empty": lambda path: path.mkdir(),
    "a file": lambda path: path.write_text("{}"),
    "foreign": lambda path: (path.mkdir(), (path / "letter.txt").write_text("Dear Sir")),
    "a config alone": lambda path: (path.mkdir(), (path / "config.json").write_text("{}")),
    "a page alone": lambda path: (path.mkdir(), (path / "report.html").write_text("<html>")),
    "a study": lambda path: (
        path.mkdir(),
        (path / "row-seed0").mkdir(),
        (path / "table.md").write_text("|"),
    ),
    "a file of each name": lambda path: (
        path.mkdir(),
        [(path / name).write_text("x") for name in FILES],
    ),
    "a folder of each name": lambda path: (path.mkdir(), [(path / name).mkdir() for name in FILES]),
}
FILES = (
    "config.json",
    "data.json",
    "test.json",
    "environment.json",
    "metrics.jsonl",
    "predictions.npz",
    "report.html",
)


@pytest.mark.parametrize("kind", FOLDERS)
@pytest.mark.parametrize("mode", MODES)
def test_what_is_no_run(mode, kind, tried, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    FOLDERS[kind](tmp_path / "run")
    tried.refuses(MODES[mode], [str(tmp_path / "run")])
    assert not (tmp_path / "results" / "run").exists()


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode not in ("predict", "audit")])
def test_no_folder_and_names_that_cannot_be(mode, tried):
    with pytest.raises(SystemExit, match="2"):
        __main__.parse([mode])
    assert "No folders are given" in tried.refuses(MODES[mode], [])
    assert "No folders are given" in tried.refuses(commands.index.index, [])
    for name in ("a" * 300, ""):
        tried.refuses(MODES[mode], [name])


@pytest.mark.parametrize("mode", MODES)
def test_a_run_that_is_not_finished(mode, tried, run):
    for name in ("report.html", "test.json", "predictions.npz"):
        (run.path / name).unlink()
    if mode != "predict":
        tried.refuses(MODES[mode], [str(run.path)])
    shutil.rmtree(run.path / "checkpoints")
    tried.refuses(MODES[mode], [str(run.path)])


CONTENTS = [
    "",
    "{",
    "[]",
    "3",
    "null",
    '"text"',
    "[{}]",
    "\x00\x01",
    "{}",
    '{"a": 1}',
    "[" * 100_000,
]


@pytest.mark.parametrize("name", ["config.json", "data.json", "test.json"])
@pytest.mark.parametrize("mode", ["compare", "report", "ensemble", "predict"])
def test_a_file_that_holds_something_else(mode, name, tried, run):
    before = (run.path / name).read_text()
    for content in CONTENTS:
        (run.path / name).write_text(content)
        if (mode, name) == ("predict", "test.json"):
            continue  # which it does not need
        tried.refuses(MODES[mode], [str(run.path)])
    (run.path / name).write_bytes(b"\xff\xfe\x80")
    if (mode, name) != ("predict", "test.json"):
        tried.refuses(MODES[mode], [str(run.path)])
    (run.path / name).write_text(before)


def spoilt(content: dict):
    """The JSON object with each of its values, one at a time, left out or of another type."""
    for key in content:
        yield key, {other: value for other, value in content.items() if other != key}
        for value in (None, "text", -1, [], {}, [None], {"a": None}):
            if type(value) is not type(content[key]):
                yield key, content | {key: value}
        if isinstance(content[key], dict):
            for inner, spoilt_value in spoilt(content[key]):
                yield f"{key}.{inner}", content | {key: spoilt_value}
        if isinstance(content[key], list) and content[key] and isinstance(content[key][0], dict):
            rest = content[key][1:]
            for inner, spoilt_value in spoilt(content[key][0]):
                yield f"{key}.{inner}", content | {key: [spoilt_value, *rest]}


def compare(run):
    commands.compare.compare([str(run.path)])


READERS = {  # of each file
    "config.json": [predict_module.Predictor, compare],
    "data.json": [predict_module.Predictor],
    "test.json": [compare, resuming.figures, run_report._header, run_report._facts],
    "environment.json": [run_report._header, lambda run: run_report._environment(run.environment)],
}


@pytest.mark.parametrize("name", READERS)
def test_a_file_with_one_value_missing_or_of_another_type(name, tried, run, monkeypatch):
    """Its readers refuse it, or do not need that value. What takes long in them is left out."""
    monkeypatch.setattr(predict_module, "build_predict", lambda *_, **__: None)
    monkeypatch.setattr(cost, "measure", lambda *_, **__: cost.Cost(1, 1.0, 1.0))
    monkeypatch.setattr(style, "save", lambda *_, **__: None)
    whole = run.read_json(name)
    for _, content in spoilt(whole):
        run.write_json(name, content)
        tried.either(lambda: [read(run) for read in READERS[name]])
    run.write_json(name, whole)
    for read in READERS[name]:
        read(run)


PREDICTIONS = {
    "nothing": {},
    "labels alone": {"labels": np.zeros(3, np.int32)},
    "of other lengths": {
        "probabilities": np.ones((3, 2), np.float32),
        "labels": np.zeros(4, np.int32),
    },
    "of one dimension": {"probabilities": np.ones(3, np.float32), "labels": np.zeros(3, np.int32)},
    "labels too large": {
        "probabilities": np.ones((3, 2), np.float32),
        "labels": np.full(3, 2, np.int32),
    },
    "labels negative": {
        "probabilities": np.ones((3, 2), np.float32),
        "labels": np.full(3, -1, np.int32),
    },
    "not finite": {
        "probabilities": np.full((3, 2), np.nan, np.float32),
        "labels": np.zeros(3, np.int32),
    },
    "text": {"probabilities": np.full((3, 2), "a"), "labels": np.zeros(3, np.int32)},
    "objects": {
        "probabilities": np.full((3, 2), None, dtype=object),
        "labels": np.zeros(3, np.int32),
    },
    "empty": {"probabilities": np.zeros((0, 2), np.float32), "labels": np.zeros(0, np.int32)},
    "of another test set": {
        "probabilities": np.ones((3, 2), np.float32) / 2,
        "labels": np.zeros(3, np.int32),
    },
}


@pytest.mark.parametrize("case", [*PREDICTIONS, "no archive", "half"])
@pytest.mark.parametrize("mode", ["report", "ensemble"])
def test_predictions_that_are_none(mode, case, tried, run, finished):
    path = run.path / "predictions.npz"
    if case in PREDICTIONS:
        np.savez(path, **PREDICTIONS[case])
    else:
        path.write_bytes(path.read_bytes()[:2000] if case == "half" else b"x")
    other = str(finished / "other")
    act = (
        commands.report.report
        if mode == "report"
        else lambda folders: commands.ensemble.ensemble([*folders, other], workdir="both")
    )
    tried.refuses(act, [str(run.path)])


METRICS = ["x\n", "[]\n", "3\n", "{}\n", '{"epoch": "a"}\n', '{"epoch": 1}\n', "{}\n" * 3]


@pytest.mark.parametrize("content", METRICS)
def test_metrics_that_are_none(content, tried, run):
    (run.path / "metrics.jsonl").write_text(content)
    tried.refuses(commands.report.report, [str(run.path)])


SECTIONS = {
    "calibration.json": calibration.section,
    "robustness.json": robustness.section,
    "unknown.json": lambda run: unknown.section(run, None),
    "explain.json": explain.section,
}


@pytest.mark.parametrize("name", SECTIONS)
def test_further_files_of_the_page(name, tried, run):
    for content in ("{", "[]", "{}", '{"method": "x"}', '{"examples": "a"}'):
        (run.path / name).write_text(content)
        tried.refuses(SECTIONS[name], run)


ENSEMBLES = [
    "",
    "{",
    "[]",
    "{}",
    '{"members": 3}',
    '{"members": []}',
    '{"members": [{}]}',
    '{"members": [{"run": "gone", "weight": 1.0}]}',
    '{"members": [{"run": 3, "weight": 1.0}]}',
]


@pytest.mark.parametrize("content", ENSEMBLES)
def test_an_ensemble_that_is_none(content, tried, finished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished / "both", tmp_path / "run")
    (tmp_path / "run" / "ensemble.json").write_text(content)
    tried.refuses(predict, [str(tmp_path / "run")])


def test_an_export_that_is_none(tried, tmp_path):
    from imgcls_jax.pretrained import safetensors_format

    for words in ({}, {"program_sha256": "0"}, {"name": "x", "program_sha256": EMPTY_SHA256}):
        safetensors_format.write(
            tmp_path / "model.safetensors", {"a": np.zeros(1, np.float32)}, words
        )
        (tmp_path / "model.jaxexport").write_bytes(b"")
        tried.refuses(predict, [str(tmp_path)])
    (tmp_path / "model.safetensors").write_bytes(b"")
    tried.refuses(predict, [str(tmp_path)])


EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize(
    "kind", [kind for kind in FOLDERS if kind not in ("missing", "empty", "a config alone")]
)
def test_training_into_what_is_no_run(kind, tried, tmp_path):
    FOLDERS[kind](tmp_path / "run")
    tried.refuses(
        commands.train.train,
        changed(**{"data.source": "digits", "data.cache": ""}),
        tmp_path / "run",
    )


def test_training_into_a_run_whose_files_are_damaged(tried, run):
    config = run.config
    for name in ("config.json", "data.json"):
        before = (run.path / name).read_text()
        (run.path / "report.html").unlink(missing_ok=True)
        for content in CONTENTS:
            (run.path / name).write_text(content)
            lines = (
                100
                if (name, content) in (("config.json", "{}"), ("config.json", '{"a": 1}'))
                else 1
            )
            tried.refuses(commands.train.train, config, run.path, lines=lines)
        (run.path / name).write_text(before)
    assert json.loads((run.path / "config.json").read_text())["seed"] == 0
    assert flat_options(run.config)
