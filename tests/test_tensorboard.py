"""TensorBoard's files of a run, read by TensorBoard's own programs."""

import json

import numpy as np
import pytest

from imgcls_jax.config.options import flat_options
from imgcls_jax.run.folder import CONFIG, RunFolder
from imgcls_jax.training import recorder

pytestmark = pytest.mark.filterwarnings(
    "ignore:html5lib's sanitizer:DeprecationWarning"
)  # TensorBoard's own copy

CONFIGURED = {
    "seed": 3,
    "data": {"source": "digits", "name": "digits", "path": None},
    "model": {"name": "cnn", "filters": [32, 64]},
    "optimizer": {"learning_rate": 0.25, "nesterov": True},
}
TESTED = {
    "accuracy": 0.875,
    "loss": 0.5,
    "best_step": 20,
    "validation_accuracy": 0.75,
    "validation_loss": 0.625,
}


def record(recorder, epoch: int, *, steps: int = 10) -> None:
    """An epoch of so many steps, in two dispatches; all ten end it."""
    last = 10 * (epoch - 1)
    for count in (4, steps - 4):
        numbers = np.arange(last + 1, last + count + 1)
        last += count
        recorder.steps(last, {"loss": 1 / numbers, "accuracy": numbers / 100})
    if steps == 10:
        recorder.epoch(line(epoch))


def line(epoch: int) -> dict:
    return {
        "epoch": epoch,
        "step": 10 * epoch,
        "train_loss": 1 / epoch,
        "validation_accuracy": 0.125 * epoch,
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunFolder:
    """Of four epochs: killed in the third, resumed from the second, then killed again while its page was written."""
    run = RunFolder(tmp_path_factory.mktemp("runs") / "small")
    run.path.mkdir()
    run.write_json(CONFIG, CONFIGURED)
    run.write_json("test.json", TESTED)
    first = recorder.Recorder(run, [], step=0, total_steps=40)
    for epoch in (1, 2):
        record(first, epoch)
    record(first, 3, steps=7)
    resumed = recorder.Recorder(run, run.history[:2], step=20, total_steps=40)
    for epoch in (3, 4):
        record(resumed, epoch)
    resumed.close()
    recorder.write_results(run)
    recorder.write_results(run)
    return run


@pytest.fixture(scope="module")
def hparams_tab(run):
    """What the HPARAMS tab asks of TensorBoard's server: hparams_tab(path, request) gives the answer to it."""
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.hparams.hparams_plugin import HParamsPlugin
    from werkzeug.test import Client

    events = EventMultiplexer().AddRunsFromDirectory(str(run.path)).Reload()
    apps = HParamsPlugin(
        TBContext(data_provider=MultiplexerDataProvider(events, str(run.path)))
    ).get_plugin_apps()
    return lambda path, request: json.loads(
        Client(apps[path]).post("/", data=json.dumps(request)).data
    )


def test_the_hparams_tab_shows_hyperparameters_with_the_final_figures(hparams_tab, run):
    experiment = hparams_tab("/experiment", {"experimentName": "", "includeMetrics": True})
    assert {metric["name"]["tag"] for metric in experiment["metricInfos"]} >= {
        "test_accuracy",
        "test_loss",
    }
    columns = [{"hparam": info["name"]} for info in experiment["hparamInfos"]]
    columns += [{"metric": info["name"]} for info in experiment["metricInfos"]]
    request = {
        "startIndex": 0,
        "sliceSize": 9,
        "colParams": columns,
        "allowedStatuses": ["STATUS_UNKNOWN"],
    }
    [row] = hparams_tab("/session_groups", request)["sessionGroups"]
    shown = row["hparams"]
    for path, value in {
        "seed": 3.0,
        "data.source": "digits",
        "data.name": "digits",
        "data.path": "None",
        "model.name": "cnn",
        "model.filters": "[32, 64]",
        "optimizer.learning_rate": 0.25,
        "optimizer.nesterov": True,
    }.items():
        assert shown[path] == value, path
    assert set(shown) == set(flat_options(run.config))
    figures = {
        metric["name"]["tag"]: (metric["trainingStep"], metric["value"])
        for metric in row["metricValues"]
    }
    points = [figures.pop(f"iteration/{key}") for key in ("loss", "accuracy")]
    assert [step for step, _ in points] == [40, 40]
    assert figures == {
        "test_accuracy": (20, 0.875),
        "test_loss": (20, 0.5),
        "kept_validation_accuracy": (20, 0.75),
        "kept_validation_loss": (20, 0.625),
        "validation_accuracy": (40, 0.5),
        "train_loss": (40, 0.25),
    }


def test_a_resumed_run_shows_no_step_twice(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    events = EventAccumulator(str(run.path / "tensorboard"), size_guidance={"tensors": 0}).Reload()
    steps = {tag: [event.step for event in events.Tensors(tag)] for tag in events.Tags()["tensors"]}
    assert steps["train_loss"] == steps["validation_accuracy"] == [10, 20, 30, 40]
    assert steps["test_accuracy"] == [20] and steps["config"] == [0]
    assert [each["step"] for each in run.history] == [10, 20, 30, 40]
    assert steps["iteration/loss"] == steps["iteration/accuracy"] == list(range(1, 41))
    assert [point["step"] for point in run.steps] == list(range(1, 41))
    for event in events.Tensors("iteration/loss"):
        assert abs(float(make_ndarray(event.tensor_proto)) * event.step - 1) < 1e-6


def test_a_long_run_has_a_point_every_so_many_steps(tmp_path):
    run = RunFolder(tmp_path)
    run.write_json(CONFIG, CONFIGURED)
    total = 3 * recorder.MAX_POINTS - 5
    long = recorder.Recorder(run, [], step=0, total_steps=total)
    for last in range(100, total + 1, 100):
        long.steps(last, {"loss": np.full(100, 0.5), "accuracy": np.full(100, 0.25)})
    assert [point["step"] for point in run.steps] == list(range(3, total - total % 100 + 1, 3))
    assert run.steps[0] == {"step": 3, "loss": 0.5, "accuracy": 0.25}


def test_damaged_points_do_not_stop_a_run(tmp_path, caplog):
    run = RunFolder(tmp_path)
    run.write_json(CONFIG, CONFIGURED)
    (tmp_path / "steps.jsonl").write_text('{"step": "two"}\n')
    recorder.Recorder(run, [], step=7, total_steps=40)
    assert (
        "steps.jsonl is damaged" in caplog.text
        and "begin at step 7" in caplog.text
        and run.steps == []
    )
