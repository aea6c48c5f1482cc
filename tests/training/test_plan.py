"""What a training in phases says of itself before it begins."""

import dataclasses
import logging
import signal

import numpy as np
import pytest
from residual import DATA, small_config, train
from test_phases import TWO, in_phases

from imgcls_jax.training import loop, plan, setup
from imgcls_jax.training.interrupt import Interrupted

PLAN = "2 epochs of phase1 on features that are computed once, then 3 epochs of phase2. About 10 s"


def test_the_plan_is_said_where_the_features_are_computed_once(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        train(
            in_phases(**{"adapt.feature_bytes": 10**6, "adapt.feature_folder": ""}),
            tmp_path / "run",
        )
    assert f"{len(DATA.train)} training images in batches of" in caplog.text and PLAN in caplog.text
    assert caplog.text.index(PLAN) < caplog.text.index("Phase 1 of 2: phase1, 2 epochs.")


def test_no_plan_without_phases_or_without_features(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        train(small_config(**{"train.epochs": 1}), tmp_path / "one")
        train(in_phases(changes=TWO, **{"adapt.feature_bytes": 0}), tmp_path / "two")
    assert "training images in batches" not in caplog.text


def test_the_time_follows_from_that_of_an_image():
    config = in_phases(**{"adapt.feature_bytes": 10**6, "adapt.feature_folder": ""})
    phases = setup.build(config, DATA)
    assert phases[0].embed and not phases[1].embed
    train_images, validation_images = len(DATA.train), len(DATA.validation)
    expected = (train_images + validation_images) + 3 * (2 * train_images + validation_images)
    assert plan.estimate(phases, DATA, 0.5) == pytest.approx(0.5 * expected)
    assert plan.estimate([dataclasses.replace(phases[0], embed=None)], DATA, 1.0) == pytest.approx(
        2 * (2 * train_images + validation_images)
    )


def test_parameters_are_counted_by_block():
    params = {
        "conv1": {"kernel": np.zeros((3, 3, 3, 16))},
        "layer1_0": {"conv1": {"kernel": np.zeros(1000)}, "bn1": {"scale": np.zeros(16)}},
        "layer1_1": {"conv1": {"kernel": np.zeros(1000)}},
        "fc": {"kernel": np.zeros((16, 2)), "bias": None},
    }
    assert plan.by_block(params).splitlines() == [
        "  conv1     432",
        "  fc         32",
        "  layer1  2,016",
    ]
    assert plan.by_block({}) == ""


def test_parameters_are_listed_once(tmp_path, monkeypatch, caplog):
    """A resumed run says how many there are, without the list."""
    validate = loop._Training._validate

    def interrupted(training):
        signal.raise_signal(signal.SIGTERM)
        return validate(training)

    with caplog.at_level(logging.INFO):
        with monkeypatch.context() as patch:
            patch.setattr(loop._Training, "_validate", interrupted)
            with pytest.raises(Interrupted):
                train(small_config(), tmp_path / "run")
        first = list(caplog.messages)
        caplog.clear()
        train(small_config(), tmp_path / "run")
    (total,) = [message for message in first if message.startswith("Trainable: ")]
    (listed,) = [message for message in first if message.startswith("  ")]
    counts = [int(line.split()[-1].replace(",", "")) for line in listed.splitlines()]
    assert total == f"Trainable: {sum(counts):,} parameters."
    assert total in caplog.messages
    assert listed not in caplog.messages


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "10 s"),
        (41, "50 s"),
        (91, "2 min"),
        (180, "3 min"),
        (181, "4 min"),
        (7800, "2 h 10 min"),
    ],
)
def test_durations(seconds, words):
    assert plan.duration(seconds) == words
