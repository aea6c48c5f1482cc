"""What a tracker besides TensorBoard is given, also after kills."""

import json

import numpy as np
import pytest
from clu.metric_writers import MetricWriter

from imgcls_jax.errors import ConfigError, RunError
from imgcls_jax.run.folder import CONFIG, RunFolder
from imgcls_jax.training import checks, recorder, trackers
from tests.old_runs import small
from tests.test_tensorboard import CONFIGURED, TESTED, line, record


class Recording(MetricWriter):
    """Appends what it is given to a file in the run's folder."""

    def __init__(self, folder):
        self._file = RunFolder(folder).path / "recorded.jsonl"

    def _append(self, step, values):
        with self._file.open("a") as file:
            for name, value in values.items():
                file.write(json.dumps([name, step, value]) + "\n")

    def write_scalars(self, step, scalars):
        self._append(step, scalars)

    def write_texts(self, step, texts):
        self._append(step, texts)

    def write_images(self, step, images):
        shapes = {name: list(pixels.shape) for name, pixels in images.items()}
        self._append(step, shapes)

    def write_hparams(self, hparams):
        self._append(0, {"hparams": hparams})

    def _nothing(self, *_, **__):
        raise AssertionError

    write_summaries = write_videos = write_audios = write_histograms = write_pointcloud = _nothing

    def flush(self):
        pass

    def close(self):
        pass


RECORDING = f"{__name__}:Recording"


def trained(folder, tracker) -> RunFolder:
    """Four epochs: killed in the third, resumed from the second, then from the first, and tested."""
    run = RunFolder(folder / "small")
    run.path.mkdir()
    run.write_json(CONFIG, CONFIGURED | {"train": {"tracker": tracker}})
    run.write_json("test.json", TESTED)
    killed = recorder.Recorder(run, [], step=0, total_steps=40)
    for epoch in (1, 2):
        record(killed, epoch)
    record(killed, 3, steps=7)
    for first in (3, 2):
        resumed = recorder.Recorder(
            run, run.history[: first - 1], step=10 * (first - 1), total_steps=40
        )
        for epoch in range(first, 5):
            record(resumed, epoch)
    resumed.close()
    recorder.write_results(run)
    recorder.write_results(run)
    return run


def test_a_writer_is_given_all_once_in_the_order_of_steps(tmp_path):
    run = trained(tmp_path, RECORDING)
    steps = {}
    for text in (run.path / "recorded.jsonl").read_text().splitlines():
        name, step, _ = json.loads(text)
        steps.setdefault(name, []).append(step)
    assert steps["loss/train"] == steps["accuracy/validation"] == [10, 20, 30, 40]
    assert steps["steps/loss"] == steps["steps/accuracy"] == list(range(1, 41))
    assert steps["accuracy/test"] == [20]
    assert steps["hparams"] == steps["config"] == [0]


def test_a_damaged_record_of_steps_is_refused(tmp_path):
    run = trained(tmp_path, RECORDING)
    (run.path / "tracker.json").write_text('{"loss/train": "ten"}')
    with pytest.raises(RunError, match="tracker.json is damaged.*delete it"):
        recorder.Recorder(run, [line(1)], step=10, total_steps=20)


class Failing(Recording):
    """Does not reach its server while `is_down`."""

    is_down = False

    def write_hparams(self, hparams):
        self._reach()
        super().write_hparams(hparams)

    def write_scalars(self, step, scalars):
        self._reach()
        super().write_scalars(step, scalars)

    close = flush = lambda self: self._reach()

    def _reach(self):
        if self.is_down:
            raise ConnectionError("no\nserver")


def test_a_tracker_that_fails_ends_no_training_and_misses_nothing(tmp_path, monkeypatch, caplog):
    run = RunFolder(tmp_path / "small")
    run.path.mkdir()
    run.write_json(CONFIG, CONFIGURED | {"train": {"tracker": f"{__name__}:Failing"}})
    monkeypatch.setattr(Failing, "is_down", True)
    with pytest.raises(RunError, match=r"cannot be written to \(no server\). Without it: --config"):
        recorder.Recorder(run, [], step=0, total_steps=40)
    monkeypatch.setattr(Failing, "is_down", False)
    killed = recorder.Recorder(run, [], step=0, total_steps=40)
    record(killed, 1)
    monkeypatch.setattr(Failing, "is_down", True)
    record(killed, 2)
    assert "was not given the newest figures (no server)" in caplog.text
    monkeypatch.setattr(Failing, "is_down", False)
    resumed = recorder.Recorder(run, run.history, step=20, total_steps=40)
    monkeypatch.setattr(Failing, "is_down", True)
    record(resumed, 3)
    monkeypatch.setattr(Failing, "is_down", False)
    resumed.close()
    text = (run.path / "recorded.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [step for name, step, _ in lines if name == "loss/train"] == [10, 20, 30]


@pytest.mark.parametrize(
    "tracker, message",
    [
        ("wandbx", "'wandbx', which cannot be imported.*Give mlflow, or package.module:Class"),
        (f"{__name__}:Writer", "has no clu.metric_writers.MetricWriter of the name 'Writer'"),
        (f"{__name__}:trained", "of the name 'trained'"),
        (":Class", "cannot be imported"),
        (".module:Class", "cannot be imported"),
    ],
)
def test_a_tracker_that_is_not_there_is_refused_before_training(tracker, message):
    config = small.get_config()
    config.train.tracker = tracker
    with pytest.raises(ConfigError, match=message):
        checks.check(config)


def test_mlflow_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(trackers, "MLFLOW", "imgcls_jax.no_such_module:Writer")
    with pytest.raises(ConfigError, match=r'pip install -e "\.\[mlflow\]"'):
        trackers.writer_class("mlflow")


@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_mlflow(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    (tmp_path / "study").mkdir()
    run = trained(tmp_path / "study", "mlflow")
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("study")
    (tracked,) = client.search_runs([experiment.experiment_id])
    assert tracked.info.run_name == "small" and tracked.info.status == "FINISHED"
    assert tracked.data.params["optimizer.learning_rate"] == "0.25"
    losses = client.get_metric_history(tracked.info.run_id, "steps/loss")
    assert [point.step for point in losses] == list(range(1, 41))
    np.testing.assert_allclose([point.value for point in losses], 1 / np.arange(1, 41))
    assert tracked.data.metrics["accuracy/test"] == 0.875
    assert [file.path for file in client.list_artifacts(tracked.info.run_id)] == ["config.md"]
    assert run.read_json("mlflow.json") == {"run_id": tracked.info.run_id}
