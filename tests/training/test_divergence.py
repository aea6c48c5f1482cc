"""Training that diverges: what is not finite is never the best, the end says why, and so do later commands."""

import logging
import math

import numpy as np
import pytest
from quadrants import quadrants

from configs import base
from imgcls_jax.data import Splits
from imgcls_jax.data.checks import check
from imgcls_jax.errors import RunError, TrainingError
from imgcls_jax.evaluation import predict
from imgcls_jax.reporting.plots import curves, style
from imgcls_jax.run.folder import PREDICTIONS, TEST, RunFolder
from imgcls_jax.training import loop

SPLITS = {"train": quadrants(40, 0), "validation": quadrants(12, 1), "test": quadrants(12, 2)}
DATA = Splits(**SPLITS, report=check(SPLITS))


def config_of(**changes):
    config = base.get_config()
    config.model.name = "attention"
    config.train.update(epochs=1, batch_size=40, eval_batch_size=20)  # one step an epoch
    config.optimizer.update(name="sgd", learning_rate=1e30)
    config.update_from_flattened_dict(changes)
    return config


def begin(config, path) -> RunFolder:
    path.mkdir()
    run = RunFolder(path)
    run.write_json("config.json", config.to_dict())
    run.write_json("data.json", DATA.report)
    return run


def test_an_epoch_whose_validation_is_not_finite_is_not_the_best(tmp_path):
    """Its only step has a finite loss, and leaves weights that have none."""
    config = config_of()
    run = begin(config, tmp_path / "run")
    for _ in range(2):  # given again, it says so again
        with pytest.raises(
            TrainingError, match="after none of its 1 epochs was the validation loss finite"
        ):
            loop.train(config, run, DATA)
    (line,) = run.history
    assert math.isfinite(line["train_loss"]) and not math.isfinite(line["validation_loss"])
    with pytest.raises(
        RunError,
        match="give figures that are not finite for 12 of 12 images, since its training dive",
    ):
        predict.test(run, DATA)
    assert not (run.path / TEST).exists() and not (run.path / PREDICTIONS).exists()


def test_a_loss_that_is_not_finite_afterwards_names_no_good_checkpoint(tmp_path):
    config = config_of(**{"train.epochs": 3})
    with pytest.raises(
        TrainingError,
        match=r"step 2 \(epoch 2,.*no epoch before had a validation loss that was fin",
    ):
        loop.train(config, begin(config, tmp_path / "run"), DATA)


@pytest.mark.parametrize("monitor", ["accuracy", "loss"])
def test_the_last_finite_epoch_is_kept_and_the_end_says_so(monitor, tmp_path, monkeypatch, caplog):
    figures = iter([(1.0, 0.5), (0.9, 0.6), (math.nan, 0.9), (math.inf, 0.95)])
    monkeypatch.setattr(
        loop._Training,
        "_validate",
        lambda self: dict(zip(("loss", "accuracy"), next(figures), strict=True)),
    )
    config = config_of(
        **{"train.epochs": 4, "optimizer.learning_rate": 0.01, "train.monitor": monitor}
    )
    run = begin(config, tmp_path / "run")
    with caplog.at_level(logging.INFO):
        loop.train(config, run, DATA)
    assert (
        "After 2 of 4 epochs, the first of them epoch 3, the validation loss was not finite; the weights of epoch 2"
        in (caplog.text)
    )
    predict.test(run, DATA)
    assert run.test["best_epoch"] == 2
    style.save(curves.draw(run.history, best_epoch=2), tmp_path / "curves.png")


def test_predictions_of_an_older_version_that_are_not_finite_say_why(tmp_path):
    np.savez(
        tmp_path / PREDICTIONS,
        probabilities=np.full((2, 2), np.nan, np.float32),
        labels=np.zeros(2, np.int32),
    )
    with pytest.raises(RunError, match="not finite: the training diverged"):
        RunFolder(tmp_path).predictions  # noqa: B018
