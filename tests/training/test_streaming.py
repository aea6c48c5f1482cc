"""Training, validation and test on images that stream are those on images that lie on the devices: to the bit."""

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from quadrants import quadrants

from configs import base
from imgcls_jax.data import Splits
from imgcls_jax.data.lazy_images import LazyImages
from imgcls_jax.errors import ConfigError
from imgcls_jax.evaluation import predict, teacher
from imgcls_jax.run.folder import CHECKPOINTS, RunFolder
from imgcls_jax.training import features, inputs, loop, parallel, profiling
from imgcls_jax.training.interrupt import Interrupted

DATA = Splits(
    train=quadrants(210, 0), validation=quadrants(50, 1), test=quadrants(130, 2), report={}
)
BATCH = 20 * 8 * 8  # bytes
BUDGET = (
    2 * 3 * BATCH + 1
)  # a window of three batches, and the one after it: of four windows an epoch the last is short


def lazily(dataset):
    images = LazyImages(
        lambda numbers: dataset.images[numbers], dataset.images.shape[1:], np.arange(len(dataset))
    )
    return dataclasses.replace(dataset, images=images)


LAZY = Splits(*(lazily(dataset) for dataset in (DATA.train, DATA.validation, DATA.test)), report={})


def small_config(**changes):
    config = base.get_config()
    config.model.name = "attention"
    config.train.update(epochs=3, batch_size=20, eval_batch_size=20, steps_per_dispatch=4)
    config.data.transform = "alternating_flip|mixup(.2)"
    config.adapt.feature_folder = ""
    config.update_from_flattened_dict(changes)
    return config


def train(config, path, data=DATA) -> RunFolder:
    run = RunFolder(path)
    path.mkdir(exist_ok=True, parents=True)
    run.write_json("config.json", config.to_dict())
    split = {"shape": data.train.images.shape[1:], "pixel_mean": 120.0}
    run.write_json("data.json", {"class_names": data.train.class_names, "splits": {"train": split}})
    loop.train(config, run, data)
    return run


def outcome(run: RunFolder):
    """Hashes of the model and the training state, and the figures of each epoch."""
    newest = max(
        (run.path / CHECKPOINTS).iterdir(),
        key=lambda child: int(child.name) if child.name.isdigit() else -1,
    )
    history = [{**line, "seconds": 0, "images_per_second": 0} for line in run.history]
    return RunFolder(newest).read_json("progress/metadata")["hashes"], history


def resident_and_streamed(folder: Path, **changes) -> list[RunFolder]:
    streaming = {"data.device_bytes": BUDGET}
    runs = {"resident": (changes, DATA), "streamed": (changes | streaming, LAZY)}
    return [
        train(small_config(**options), folder / name, data)
        for name, (options, data) in runs.items()
    ]


def test_training_and_evaluation_are_the_same_to_the_bit(tmp_path):
    resident, streamed = resident_and_streamed(tmp_path)
    assert outcome(resident) == outcome(streamed) and len(resident.history) == 3
    for run, data in ((resident, DATA), (streamed, LAZY)):
        predict.test(run, data)
    for ours, theirs in zip(resident.predictions, streamed.predictions, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert resident.test["loss"] == streamed.test["loss"]


def test_on_one_device_too(tmp_path):
    code = (
        "import sys, types; from pathlib import Path; sys.path.insert(0, 'tests/training'); import test_streaming as t;"
        "import jax;"
        "one, other = t.resident_and_streamed(Path(sys.argv[1]), **{'data.transform': 'alternating_flip'});"
        "assert jax.device_count() == 1;"
        "assert t.outcome(one) == t.outcome(other); print('the same')"
    )
    root = Path(__file__).parents[2]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1", "PYTHONPATH": str(root)}
    run = subprocess.run(
        [sys.executable, "-c", code, tmp_path],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.stdout.endswith("the same\n"), run.stderr


def test_two_views_of_an_image_are_of_the_same_one(tmp_path):
    """SimCLR, whose second view is drawn from the window too."""
    runs = []
    for name, budget, data in (("resident", 10**9, DATA), ("streamed", BUDGET, LAZY)):
        config = small_config(
            **{"data.transform": "flip", "train.epochs": 1, "data.device_bytes": budget}
        )
        config.model = ConfigDict(
            {"name": "simclr", "backbone": "attention", "projection": 16, "pretrained": ""}
        )
        config.objective = ConfigDict({"name": "simclr"})
        runs.append(train(config, tmp_path / name, data))
    assert outcome(runs[0]) == outcome(runs[1])


@pytest.mark.parametrize("later", [BUDGET, 10**9])
def test_interrupted_in_mid_epoch_it_goes_on_to_the_same_bits(tmp_path, later, monkeypatch):
    """With whatever budget it goes on."""
    whole = train(small_config(), tmp_path / "whole")
    dispatches = iter(range(9))
    take = inputs.Feed.take

    def interrupting(self, count):
        if next(dispatches) == 4:
            signal.raise_signal(signal.SIGTERM)
        return take(self, count)

    config = small_config(**{"data.device_bytes": BUDGET})
    with monkeypatch.context() as patch:
        patch.setattr(inputs.Feed, "take", interrupting)
        with pytest.raises(Interrupted):
            train(config, tmp_path / "resumed", LAZY)
    config.data.device_bytes = later
    assert outcome(train(config, tmp_path / "resumed", LAZY)) == outcome(whole)


def test_no_more_than_the_budget_lies_on_a_device(tmp_path, monkeypatch):
    placed = []
    replicate = parallel.replicate

    def watched(tree, **options):
        if isinstance(tree, np.ndarray) and tree.ndim == 4:
            placed.append(tree.nbytes)
        return replicate(tree, **options)

    monkeypatch.setattr(inputs, "replicate", watched)
    monkeypatch.setattr(parallel, "replicate", watched)
    run = train(
        small_config(**{"data.device_bytes": BUDGET, "train.epochs": 1}), tmp_path / "run", LAZY
    )
    # 3 batches a window: the epoch has 10, validation 3.
    assert placed == [3 * BATCH] * (4 + 1) and 2 * max(placed) <= BUDGET
    predict.test(run, LAZY)
    # The test set has 7; the validation images alone fit the budget.
    assert placed[5:] == [3 * BATCH] * 3 + [LAZY.validation.images.nbytes] and max(placed) <= BUDGET


def test_the_teacher_and_features_read_as_they_need(tmp_path):
    run = train(small_config(**{"train.epochs": 1}), tmp_path / "run")
    config = small_config()
    config.objective = ConfigDict({"name": "distill", "teacher": str(run.path)})
    found = [teacher.add_predictions(config, data).train.teacher for data in (DATA, LAZY)]
    np.testing.assert_array_equal(*found)
    frozen = {"adapt.trainable": ("^classifier/",), "data.transform": "", "train.epochs": 2}
    resident, streamed = resident_and_streamed(tmp_path / "frozen", **frozen)
    assert outcome(resident) == outcome(streamed)
    with pytest.MonkeyPatch.context() as patch:  # features they were, in both
        patch.setattr(features, "compute", None)
        with pytest.raises(TypeError, match="not callable"):
            train(small_config(**frozen, **{"data.device_bytes": BUDGET}), tmp_path / "other", LAZY)


def test_profile_takes_a_window(tmp_path):
    config = small_config(**{"data.device_bytes": BUDGET, "data.transform": ""})
    figures = profiling.profile(config, LAZY, tmp_path)
    assert figures["images_per_second"] > 0 and figures["flops_per_step"] > 0


@pytest.mark.parametrize("option", ["train.batch_size", "train.eval_batch_size"])
@pytest.mark.parametrize("budget", [0, 5000])
def test_a_budget_of_less_than_two_batches_is_refused(tmp_path, option, budget):
    config = small_config(**{option: 40, "data.device_bytes": budget})
    with pytest.raises(ConfigError, match=f"device_bytes is {budget:,} bytes.*smaller batches"):
        train(config, tmp_path / "run")
