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
        "phase": 1,
        "seconds": float(epoch),
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


def hparams_tab(folder):
    """What the HPARAMS tab asks of TensorBoard's server for a --logdir.

    `hparams_tab(folder)(path, request)` gives the answer to a request.
    """
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.hparams.hparams_plugin import HParamsPlugin
    from werkzeug.test import Client

    events = EventMultiplexer().AddRunsFromDirectory(str(folder)).Reload()
    provider = MultiplexerDataProvider(events, str(folder))
    apps = HParamsPlugin(TBContext(data_provider=provider)).get_plugin_apps()

    def answer(path, request):
        return json.loads(Client(apps[path]).post("/", data=json.dumps(request)).data)

    return answer


def test_the_hparams_tab_shows_hyperparameters_with_the_final_figures(run):
    ask = hparams_tab(run.path.parent)
    experiment = ask("/experiment", {"experimentName": "", "includeMetrics": True})
    assert {metric["name"]["tag"] for metric in experiment["metricInfos"]} >= {
        "accuracy/test",
        "loss/test",
    }
    columns = [{"hparam": info["name"]} for info in experiment["hparamInfos"]]
    columns += [{"metric": info["name"]} for info in experiment["metricInfos"]]
    request = {
        "startIndex": 0,
        "sliceSize": 9,
        "colParams": columns,
        "allowedStatuses": ["STATUS_UNKNOWN"],
    }
    [row] = ask("/session_groups", request)["sessionGroups"]
    assert row["name"] == "small"
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
    points = [figures.pop(f"steps/{key}") for key in ("loss", "accuracy")]
    assert [step for step, _ in points] == [40, 40]
    assert figures == {
        "accuracy/test": (20, 0.875),
        "loss/test": (20, 0.5),
        "accuracy/kept_validation": (20, 0.75),
        "loss/kept_validation": (20, 0.625),
        "accuracy/validation": (40, 0.5),
        "loss/train": (40, 0.25),
        "training/seconds": (40, 4.0),
    }


def test_the_hparams_tab_shows_what_differs_first(tmp_path):
    for name, rate in (("slow", 0.01), ("fast", 0.1)):
        run = RunFolder(tmp_path / name)
        run.path.mkdir()
        run.write_json(CONFIG, CONFIGURED | {"name": name, "optimizer": {"learning_rate": rate}})
        writer = recorder.Recorder(run, [], step=0, total_steps=10)
        record(writer, 1)
        writer.close()
    ask = hparams_tab(tmp_path)
    experiment = ask("/experiment", {"experimentName": "", "includeMetrics": True})
    options = [info["name"] for info in experiment["hparamInfos"]]
    assert options[:2] == ["name", "optimizer.learning_rate"]
    figures = [info["name"]["tag"] for info in experiment["metricInfos"]]
    assert figures[:2] == ["accuracy/validation", "loss/train"]


def test_only_runs_in_phases_have_a_chart_of_them(tmp_path):
    charts = {}
    for name, phases in (("plain", {}), ("phased", {"1_head": {}, "2_all": {}})):
        run = RunFolder(tmp_path / name)
        run.path.mkdir()
        run.write_json(CONFIG, CONFIGURED | {"adapt": {"phases": phases}})
        writer = recorder.Recorder(run, [], step=0, total_steps=10)
        record(writer, 1)
        writer.close()
        charts[name] = tags_of(run)
    assert charts["phased"] - charts["plain"] == {"training/phase"}


def test_files_of_older_versions_are_replaced(tmp_path):
    run = RunFolder(tmp_path)
    run.write_json(CONFIG, CONFIGURED)
    old = tmp_path / "tensorboard" / "events.out.tfevents.1.host.v2"
    old.parent.mkdir()
    old.write_bytes(b"")
    writer = recorder.Recorder(run, [line(1)], step=10, total_steps=20)
    record(writer, 2)
    writer.close()
    assert not old.parent.exists()
    assert "loss/train" in tags_of(run)


def tags_of(run: RunFolder) -> set[str]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.path), size_guidance={"tensors": 0}).Reload()
    return set(events.Tags()["tensors"])


def test_a_resumed_run_shows_no_step_twice(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    events = EventAccumulator(str(run.path), size_guidance={"tensors": 0}).Reload()
    steps = {tag: [event.step for event in events.Tensors(tag)] for tag in events.Tags()["tensors"]}
    assert steps["loss/train"] == steps["accuracy/validation"] == [10, 20, 30, 40]
    assert steps["accuracy/test"] == [20] and steps["config"] == [0]
    assert [each["step"] for each in run.history] == [10, 20, 30, 40]
    assert steps["steps/loss"] == steps["steps/accuracy"] == list(range(1, 41))
    assert [point["step"] for point in run.steps] == list(range(1, 41))
    for event in events.Tensors("steps/loss"):
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
