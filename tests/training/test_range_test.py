"""The learning rate range test: what it suggests of curves, and that it runs a config's own steps."""

import numpy as np
import pytest

from configs import own_photos
from imgcls_jax import __main__, commands, data
from imgcls_jax.errors import ConfigError, TrainingError
from imgcls_jax.run.folder import CONFIG, RunFolder
from imgcls_jax.training import loop, range_test
from imgcls_jax.training.range_test import RangeTest
from tests.old_runs import small

RATES = np.geomspace(1e-6, 10, 300)


def losses(*, fall_at=1e-3, rise_at=1e-1, fall=2.0, noise=0.02):
    """A loss that falls around one rate and rises around another, with noise."""
    down = fall / (1 + (fall_at / RATES) ** 2)
    up = 5 / (1 + (rise_at / RATES) ** 4)
    return 2.3 - down + up + noise * np.random.default_rng(0).standard_normal(len(RATES))


@pytest.mark.parametrize("rise_at", [1e-2, 1e-1, 1])
def test_the_suggestion_follows_the_rate_at_which_training_breaks_down(rise_at):
    test = RangeTest(RATES, losses(fall_at=rise_at / 100, rise_at=rise_at))
    assert 0.5 * rise_at < test.breakdown < rise_at
    assert test.suggestion == pytest.approx(test.breakdown / 20, rel=0.05)


def test_a_loss_that_is_not_finite_is_a_breakdown():
    whole = losses(rise_at=1)
    is_early = RATES < 0.05
    broken = np.append(whole[is_early], np.nan)
    test = RangeTest(RATES[: len(broken)], broken)
    assert test.breakdown == pytest.approx(0.05, rel=0.3)


@pytest.mark.parametrize(
    "curve, remedy",
    [
        (losses(fall=0), "did not fall.*--steps"),
        (2.3 + losses(fall=0, rise_at=1e-6), "did not fall.*--low"),
        (losses(rise_at=1e3), "did not rise again up to the rate 10.*--high"),
    ],
)
def test_a_curve_without_a_suggestion_says_what_to_change(curve, remedy):
    with pytest.raises(TrainingError, match=remedy):
        _ = RangeTest(RATES, curve).suggestion


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_steps": 10}, "--steps is 10: give at least 50"),
        ({"low": 0.1, "high": 0.01}, "--low is 0.1 and --high 0.01: give 0 < low < high"),
        ({"low": 0.0}, "--low is 0"),
    ],
)
def test_what_makes_no_range_is_refused_before_data_is_read(
    options, message, tmp_path, monkeypatch
):
    monkeypatch.setattr(data, "load", lambda *_, **__: pytest.fail("data were read"))
    with pytest.raises(ConfigError, match=message):
        commands.find_lr.find_lr(small.get_config(), tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("balanced_sampling", [0.0, 1.0])
def test_the_steps_are_those_of_the_configs_training(tmp_path, balanced_sampling):
    """With a range of nearly one rate the losses are those of a training with that rate."""
    config = small.get_config()
    config.train.epochs = 1
    config.train.balanced_sampling = balanced_sampling
    config.optimizer.learning_rate = 1e-3
    config.schedule.name = "constant"
    config.schedule.warmup_epochs = 0.0
    splits = data.load(config.data)
    run = RunFolder(tmp_path)
    run.write_json(CONFIG, config.to_dict())
    loop.train(config, run, splits)
    test = range_test.run(config, splits, num_steps=60, low=1e-3, high=1.0000001e-3)
    steps = [point["loss"] for point in run.steps]
    assert len(test.losses) == 60 > len(steps)
    np.testing.assert_allclose(test.losses[: len(steps)], steps, rtol=1e-4)


def test_the_command_prints_what_trains_with_the_suggestion(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(commands.find_lr, "find_lr", lambda *_, **__: 0.0023)
    arguments = ["find-lr", "configs/quickstart.py", "--config.seed=3"]
    arguments.append("--config.optimizer.learning_rate=.5")
    assert __main__.main(arguments) == 0
    assert capsys.readouterr().out == (
        "python launch.py --config=configs/quickstart.py --config.seed=3 "
        "--config.optimizer.learning_rate=0.0023\n"
    )


def test_the_rate_is_that_of_the_first_phase():
    config = own_photos.get_config()
    path = commands.find_lr._rate_path
    assert path(config) == "adapt.phases.phase1.optimizer.learning_rate"
    del config.adapt.phases.phase1["optimizer"]
    assert path(config) == path(small.get_config()) == "optimizer.learning_rate"
