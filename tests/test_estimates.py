"""What would be trained: said row by row, estimated once for each kind of run."""

from concurrent.futures import Future

import jax
import pytest
from ml_collections import ConfigDict

from imgcls_jax import data
from imgcls_jax.commands import dry_run
from imgcls_jax.training import estimates
from tests.old_runs import small


def test_phases_with_frozen_parts_are_estimated():
    """The phases start from the same parameters, which the first one's steps must not take."""
    config = small.get_config()
    config.adapt.phases = ConfigDict(
        {
            "phase1": {"adapt": {"trainable": ("^classifier/",)}, "train": {"epochs": 2}},
            "phase2": {"adapt": {"trainable": ("^classifier/", "^dense/")}, "train": {"epochs": 1}},
        }
    )
    config.data.transform = "random_crop(1)"
    found = estimates.estimate(config, data.load(config.data))
    first, second = found.per_epoch
    assert first > 0 and second > 0 and found.trainable < found.parameters
    training = 2 * first + second + found.features
    assert found.seconds(config) == pytest.approx(found.start + training + found.end)
    assert found.seconds(config, done=3) == pytest.approx(found.start + found.end)
    ends = found.start + found.end
    assert found.seconds(config, done=2) == pytest.approx(ends + found.features + second)


def test_start_test_and_report_are_counted():
    config = small.get_config()
    splits = data.load(config.data)
    result = estimates.estimate(config, splits, importing=100.0, loading=50.0)
    assert result.start > 150 and result.end > 100
    assert result.seconds(config, done=6) == pytest.approx(result.start + result.end)


def test_compiling_counts_where_it_is_cached_too(monkeypatch):
    config = small.get_config()
    splits = data.load(config.data)

    def measure(phase, data):
        jax.monitoring.record_event_duration_secs(estimates.CACHE_EVENT, 30.0)
        return estimates._Times(compiling=1.0, features=0.0, epoch=1.0, test=1.0)

    monkeypatch.setattr(estimates, "_measure", measure)
    assert estimates.estimate(config, splits).start > 31


class Here:
    """An executor that works at once, in this process."""

    def __init__(self, *arguments, **options):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def submit(self, function, *arguments):
        done = Future()
        done.set_result(function(*arguments))
        return done


def test_a_line_is_printed_as_soon_as_it_is_known_and_kinds_are_estimated_once(
    tmp_path, monkeypatch, capsys, caplog
):
    printed, estimated = "", []
    caplog.set_level(
        "INFO", "imgcls_jax"
    )  # which is as it was again at the end: a dry run is quiet

    def estimate(config):
        nonlocal printed
        printed += capsys.readouterr().out
        estimated.append((config.model.hidden, printed))
        return estimates.Estimate(parameters=10, trainable=10, features=0.0, per_epoch=(60.0,))

    monkeypatch.setattr(dry_run, "ProcessPoolExecutor", Here)
    monkeypatch.setattr(dry_run, "_estimate", estimate)
    config = ConfigDict({"name": "s", "title": "", "seeds": (0, 1)})
    config.rows = ConfigDict({"a": {"config": small.get_config()}})
    config.grid = (
        ("model.hidden", (6, 7)),
        ("optimizer.learning_rate", (0.1, 0.2)),
        ("train.epochs", (1, 3)),
    )
    dry_run.show(config, tmp_path)
    printed += capsys.readouterr().out
    assert [hidden for hidden, _ in estimated] == [6, 7]
    assert "hidden=6" in estimated[1][1] and "hidden=7" not in estimated[1][1]
    assert printed.count("| new |") == 16 and "| 3 | 3 min" in printed and "| 1 | 1 min" in printed
