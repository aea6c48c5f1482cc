"""What a training in phases says of itself before it begins."""

import dataclasses
import logging

import pytest
from residual import DATA, small_config, train
from test_phases import TWO, in_phases

from imgcls_jax.training import plan, setup

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
