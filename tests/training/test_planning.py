"""What a step would need on a device that is not there."""

import dataclasses

import numpy as np
import pytest

from imgcls_jax.devices import DEVICES, GIGA, Device
from imgcls_jax.errors import ConfigError
from imgcls_jax.run.folder import RunFolder
from imgcls_jax.training import inputs, parallel, planning, setup
from tests.training.test_loop import DATA, small_config

SLOW = Device("Slow", {"float32": 1e9}, bandwidth=1e12, memory=GIGA)


@pytest.fixture(scope="module")
def step() -> planning.Plan:
    return planning.plan(small_config(**{"data.transform": ""}), DATA, SLOW)


def test_a_step_is_counted_without_being_run(step):
    # Two FLOPs for each product of the dense layers, three times as much with the backward pass.
    rows, width, hidden, classes, batch = 8, 64, 128, 4, 20
    products = rows * 8 * width + 3 * rows * width**2 + 2 * rows**2 * width
    products += rows * width * hidden + hidden * classes
    assert step.flops == pytest.approx(6 * batch * products, rel=0.2)
    assert step.batch_size == batch and step.steps_per_epoch == len(DATA.train) // batch
    parameters = 3 * width**2 + rows * width * hidden
    assert step.num_bytes > 4 * parameters and step.memory > 4 * parameters


@pytest.mark.parametrize(
    "changes",
    [
        {"adapt.trainable": ("^classifier/",)},
        {"objective.name": "distill", "objective.teacher": "runs/a"},
    ],
)
def test_features_computed_once_and_distillation_are_planned(changes, step):
    config = small_config(**{"data.transform": "", **changes})
    planned = planning.plan(config, DATA, SLOW)
    assert 0 < planned.flops <= 1.1 * step.flops
    if "adapt.trainable" in changes:
        assert planned.flops < 0.2 * step.flops


def test_of_streamed_images_two_windows_are_on_the_device(step):
    config = small_config(**{"data.transform": ""})
    batch = 20 * 64
    config.data.device_bytes = 2 * batch
    streamed = planning.plan(config, DATA, SLOW)
    images = 64 * (len(DATA.train) + len(DATA.validation))
    assert step.memory - streamed.memory == images - 2 * batch


def test_the_products_of_all_rounds_of_a_loop_are_counted():
    phase = setup.build(small_config(**{"data.transform": "", "model.name": "lstm"}), DATA)[0]
    batch = 20
    indices = parallel.split_batches(np.zeros((1, batch), np.int32), 1)
    state = parallel.replicate(phase.drawn_state())
    flops = phase.train.flops(state, inputs.place(DATA.train), indices)
    rows, columns, units, hidden, classes = 8, 8, 128, 64, 4
    products = rows * 4 * units * (columns + units) + units * hidden + hidden * classes
    assert flops == pytest.approx(6 * batch * products, rel=0.2)


def test_the_floor_is_the_slower_of_products_and_memory(step):
    assert step.floor(SLOW) == step.computing(SLOW) == step.flops / 1e9
    quick = dataclasses.replace(SLOW, flops={"float32": 1e18})
    assert step.floor(quick) == step.moving(quick) == step.num_bytes / 1e12


def test_a_batch_that_does_not_fit_is_named(step):
    assert "the batch fits" in planning.describe(step, SLOW, [])
    tight = dataclasses.replace(SLOW, memory=step.memory - 1)
    assert "the batch does NOT fit" in planning.describe(step, tight, [])


def test_a_precision_that_a_device_does_not_have_is_refused():
    config = small_config(**{"train.precision": "bfloat16"})
    with pytest.raises(ConfigError, match="in which V100 is not fast: give .*=float32"):
        planning.plan(config, DATA, DEVICES["v100"])


def test_runs_that_were_published_say_how_near_they_came(step, tmp_path):
    config = small_config()
    batch = config.train.batch_size
    runs = [("a", 100.0, "", batch), ("b", 400.0, "", batch)]
    runs += [("c", 900.0, "flip", batch), ("d", 900.0, "", 4 * batch)]  # of other steps
    for name, rate, transform, batch_size in runs:
        run = RunFolder(tmp_path / name)
        run.path.mkdir()
        other = small_config(**{"data.transform": transform, "train.batch_size": batch_size})
        run.write_json("config.json", other.to_dict())
        run.write_json("environment.json", {"device": "AMD EPYC"})
        run.write_history([{"epoch": 1, "step": 3, "images_per_second": rate}])
    config.data.transform = ""
    measured = planning.measurements(config, [str(tmp_path)])
    assert [measurement.folder[-1] for measurement in measured] == ["b", "a"]
    assert measured[0].seconds_per_step == 20 / 400
    text = planning.describe(step, SLOW, measured)
    share = step.floor(DEVICES["2xcpu"]) / 0.05
    assert f"Measured on AMD EPYC: 50.0 ms a step, {share:.1%} of the floor's speed" in text
    assert "No published run" in planning.describe(step, SLOW, [])
