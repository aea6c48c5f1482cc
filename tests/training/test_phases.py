"""Phases: what trains in each, how they follow each other, how they resume; on a small residual network."""

import logging

import numpy as np
import pytest
from ml_collections import ConfigDict
from residual import DATA, changed, small_config, train, without_times

from imgcls_jax import trees
from imgcls_jax.errors import ConfigError
from imgcls_jax.evaluation.predict import Predictor
from imgcls_jax.run.checkpoints import Checkpoints
from imgcls_jax.run.folder import CHECKPOINTS, RunFolder
from imgcls_jax.training import inputs, loop, parallel, phases, setup

TWO = {
    "phase1": {"adapt": {"trainable": ("^classifier/",)}, "train": {"epochs": 2}},
    "phase2": {
        "adapt": {"trainable": ("^layer2_0", "^classifier/")},
        "optimizer": {"name": "adam", "learning_rate": 1e-3},
        "schedule": {"name": "cosine"},
        "train": {"epochs": 3},
    },
}


def in_phases(*, changes=TWO, **options):
    config = small_config(**options)
    config.adapt.phases = ConfigDict(changes)
    return config


def checkpoint(run, step):
    """Parameters and statistics by path, and the whole of its progress."""
    run = RunFolder(run.path / CHECKPOINTS / str(step))
    checkpoints = Checkpoints(run.path.parent, read_only=True)
    model = checkpoints._try(step, {"model": None})["model"]
    checkpoints.close()
    return trees.flatten({"params": model["params"], **model["model_state"]}), run.read_json(
        "progress/metadata"
    )


def test_each_phase_trains_its_own_with_its_own_rate(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        run = train(in_phases(), tmp_path / "run")
    assert (
        "Phase 1 of 2: phase1, 2 epochs." in caplog.text
        and "Phase 2 of 2: phase2, 3 epochs." in caplog.text
    )
    rates = [line["learning_rate"] for line in run.history]
    cosine = [5e-4 * (1 + np.cos(np.pi * step / 9)) for step in (2, 5, 8)]  # of phase 2's 9 steps
    assert rates == pytest.approx([0.05, 0.05, *cosine])


def test_what_was_frozen_in_the_first_phase_trains_in_the_second(tmp_path):
    start = setup.build(in_phases(), DATA)[0].drawn_state()
    first = trees.flatten({"params": start.params, **start.model_state})
    # After phase 1 alone: its last checkpoint is that of a run with the phase alone.
    one = train(in_phases(changes={"phase1": TWO["phase1"]}), tmp_path / "one")
    between, _ = checkpoint(one, 6)
    assert changed(first, between) == {"params/classifier/kernel", "params/classifier/bias"}
    two = train(in_phases(), tmp_path / "two")
    last, whole = checkpoint(two, 15)
    trained = {path for path in first if "layer2_0" in path or "classifier" in path}
    biases = {
        path for path in trained if "conv" in path and path.endswith("bias")
    }  # before BatchNorm: no gradient
    assert trained - biases <= changed(between, last) <= trained
    assert whole["progress"]["phase"] == 1 and whole["progress"]["phase_epochs"] == 3


AVERAGED = {"optimizer.name": "schedule_free_adamw", "optimizer.learning_rate": 1e-6}


def test_an_average_of_weights_begins_at_those_of_the_phase_before(tmp_path):
    """It began at the random ones of the start, to which the first step went back."""
    changes = {"phase1": TWO["phase1"], "phase2": {"train": {"epochs": 1}}}
    config = in_phases(changes=changes, **AVERAGED)
    config.optimizer.learning_rate = 0.05
    config.adapt.phases.phase2.optimizer = ConfigDict({"learning_rate": 1e-9})
    run = train(config, tmp_path / "run")
    between, _ = checkpoint(run, 6)
    last, _ = checkpoint(run, 9)
    kernel = "params/classifier/kernel"
    np.testing.assert_allclose(last[kernel], between[kernel], atol=1e-6)


@pytest.mark.parametrize(
    "first, second", [("schedule_free_adamw", "sgd"), ("sgd", "schedule_free_adamw")]
)
def test_phases_resume_where_only_one_has_an_average_of_weights(
    first, second, tmp_path, monkeypatch
):
    changes = {
        "phase1": {"optimizer": {"name": first}, "train": {"epochs": 1}},
        "phase2": {"optimizer": {"name": second}, "train": {"epochs": 2}},
    }
    config = in_phases(
        changes=changes, **{"optimizer.momentum": 0.0, "optimizer.learning_rate": 0.01}
    )
    whole = train(config, tmp_path / "whole")
    finish_epoch = loop._Training._finish_epoch

    def stop(self):
        finish_epoch(self)
        if self.progress.epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop._Training, "_finish_epoch", stop)
        train(config, tmp_path / "stopped")
    resumed = train(config, tmp_path / "stopped")
    assert without_times(resumed.history) == without_times(whole.history)
    assert not list((tmp_path / "stopped" / CHECKPOINTS).glob("damaged-*"))
    expected, _ = checkpoint(whole, 9)
    found, _ = checkpoint(resumed, 9)
    assert changed(expected, found) == set()


def test_an_average_of_weights_begins_at_those_that_are_given(tmp_path):
    first = train(small_config(), tmp_path / "first")
    config = small_config(**AVERAGED, **{"model.pretrained": str(first.path), "train.epochs": 1})
    second = train(config, tmp_path / "second")
    before, _ = checkpoint(first, 6)
    after, _ = checkpoint(second, 3)
    kernel = "params/classifier/kernel"
    np.testing.assert_allclose(after[kernel], before[kernel], atol=1e-4)


@pytest.mark.parametrize("epochs", [2, 3])  # stopped at the boundary, and within the second phase
def test_resumed_phases_give_the_same_bits(tmp_path, epochs, monkeypatch):
    whole = train(in_phases(), tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(
            loop._Training, "run", lambda self: [self._epoch(_Quiet()) for _ in range(epochs)]
        )
        train(in_phases(), tmp_path / "resumed")
    resumed = train(in_phases(), tmp_path / "resumed")
    assert without_times(resumed.history) == without_times(whole.history)
    assert checkpoint(resumed, 15)[1]["hashes"] == checkpoint(whole, 15)[1]["hashes"]


class _Quiet:
    """No signal."""

    received = 0


def test_early_stopping_ends_a_phase_and_not_the_training(tmp_path, monkeypatch):
    figures = iter([1.0, 2.0, 3.0, 0.5, 0.4, 0.3])
    monkeypatch.setattr(
        loop._Training, "_validate", lambda self: {"loss": next(figures), "accuracy": 0.5}
    )
    stopping = {
        "phase1": {"train": {"epochs": 9, "early_stopping": 2}},
        "phase2": {"train": {"epochs": 3}},
    }
    run = train(in_phases(changes=stopping, **{"train.monitor": "loss"}), tmp_path / "run")
    assert len(run.history) == 6
    assert checkpoint(run, 18)[1]["progress"]["best_epoch"] == 6


def test_features_are_cached_in_the_phase_where_they_stay_the_same():
    first, second = setup.build(in_phases(**{"adapt.feature_bytes": 10**6}), DATA)
    assert first.embed is not None and second.embed is None
    plain = {
        "phase1": TWO["phase1"] | {"data": {"transform": "normalize(cifar10)"}},
        "phase2": TWO["phase2"],
    }
    options = {"data.transform": "random_crop(1)|normalize(cifar10)", "adapt.feature_bytes": 10**6}
    first, _ = setup.build(in_phases(changes=plain, **options), DATA)
    assert first.embed is not None  # its images are those of evaluation
    smaller = {"phase1": TWO["phase1"] | {"data": {"transform": "resize(4)|normalize(cifar10)"}}}
    (first,) = setup.build(in_phases(changes=smaller, **options), DATA)
    assert first.embed is None


def test_images_grow_from_phase_to_phase_and_are_judged_at_their_last_size(tmp_path):
    growing = {
        "phase1": {"data": {"transform": "resize(4)|flip"}, "train": {"epochs": 1}},
        "phase2": {"train": {"epochs": 1}},
    }
    config = in_phases(changes=growing, **{"data.transform": "flip"})
    small, large = setup.build(config, DATA)
    indices = np.zeros((2, 1, 8), np.int32)
    flops = [
        each.train.flops(parallel.replicate(each.drawn_state()), inputs.place(DATA.train), indices)
        for each in (small, large)
    ]
    assert flops[0] < 0.4 * flops[1]
    run = train(config, tmp_path / "run")
    logits = Predictor(run).logits(DATA.validation.images)
    accuracy = (logits.argmax(-1) == DATA.validation.labels).mean()
    assert accuracy == pytest.approx(max(line["validation_accuracy"] for line in run.history))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"phase1": {"model": {"name": "vgg"}}},
            "phases.phase1 changes model.name, which a phase cannot",
        ),
        (
            {"phase1": {"train": {"epoch": 3}}},
            "changes train.epoch, .* The nearest that it can: train.epochs",
        ),
        (
            {"phase1": {}, "phase2": {"adapt": {"trainable": ("layer9",)}}},
            "'layer9' is found in no parameter's path",
        ),
        ({"phase1": {"train": {"epochs": 0}}}, "train.epochs is 0"),
        (
            {"phase1": {"adapt": {"last_layers": 3}}},
            "possible for efficientnetv2_b0; this model is resnet20",
        ),
    ],
)
def test_phases_that_cannot_be_are_refused_before_the_first_begins(changes, said):
    with pytest.raises(ConfigError, match=said):
        setup.build(in_phases(changes=changes), DATA)


def test_a_config_without_phases_is_its_own():
    config = small_config()
    assert phases.of(config) == {"": config}
