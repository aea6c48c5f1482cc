"""The loop on a small problem in this process: what it decides, what it writes, how it resumes."""

import dataclasses
import logging
import math
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quadrants import quadrants

from configs import base
from imgcls_jax import pretrained, trees
from imgcls_jax.data import Splits
from imgcls_jax.data.batches import epoch_batches
from imgcls_jax.data.transforms import parse
from imgcls_jax.errors import ConfigError, DataError, TrainingError
from imgcls_jax.run.checkpoints import Checkpoints, shapes
from imgcls_jax.run.folder import CHECKPOINTS, RunFolder
from imgcls_jax.training import dispatch, inputs, loop, optimizers, parallel, profiling, setup
from imgcls_jax.training.initializer import Initializer
from imgcls_jax.training.interrupt import Interrupted
from imgcls_jax.training.losses import LabelLoss
from imgcls_jax.training.objectives import Labels
from imgcls_jax.training.state import TrainState
from imgcls_jax.training.train_step import Recipe

DATA = Splits(
    train=quadrants(210, 0), validation=quadrants(60, 1), test=quadrants(60, 2), report={}
)


def small_config(**changes):
    config = base.get_config()
    config.model.name = "attention"
    config.train.update(epochs=4, batch_size=20, eval_batch_size=20, steps_per_dispatch=4)
    config.data.transform = "random_crop(1)"
    config.update_from_flattened_dict(changes)
    return config


def begin(config, path) -> RunFolder:
    run = RunFolder(path)
    path.mkdir(exist_ok=True)
    run.write_json("config.json", config.to_dict())
    run.write_json("data.json", {"class_names": DATA.train.class_names})
    return run


def train(config, path) -> RunFolder:
    run = begin(config, path)
    loop.train(config, run, DATA)
    return run


def final_hashes(run):
    """Of model and training state in the newest checkpoint."""
    newest = max(
        (run.path / CHECKPOINTS).iterdir(),
        key=lambda child: int(child.name) if child.name.isdigit() else -1,
    )
    return RunFolder(newest).read_json("progress/metadata")["hashes"], int(newest.name)


def without_times(history):
    return [
        {key: line[key] for key in line if key not in ("seconds", "images_per_second")}
        for line in history
    ]


def test_it_learns_and_records_every_epoch(tmp_path):
    run = train(small_config(**{"train.epochs": 8}), tmp_path / "run")
    assert [line["epoch"] for line in run.history] == list(range(1, 9))
    assert [line["step"] for line in run.history] == [10 * epoch for epoch in range(1, 9)]
    assert run.history[0]["train_accuracy"] < 0.6 and run.history[-1]["validation_accuracy"] > 0.9


def test_the_same_seed_gives_the_same_bits_and_another_does_not(tmp_path):
    one, same = (final_hashes(train(small_config(), tmp_path / name)) for name in ("one", "same"))
    other = final_hashes(train(small_config(seed=1), tmp_path / "other"))
    assert one == same and one != other


def test_the_number_of_steps_per_dispatch_changes_no_bit(tmp_path):
    few, many = (
        final_hashes(
            train(small_config(**{"train.steps_per_dispatch": count}), tmp_path / str(count))
        )
        for count in (3, 7)
    )
    assert few == many


@pytest.mark.parametrize("dispatches", [1, 4, 8])
def test_interrupted_and_resumed_it_equals_the_uninterrupted_run(tmp_path, dispatches, monkeypatch):
    """Stopped in the first epoch, at its end and in a later one; plateau and early stopping go on counting."""
    config = small_config(
        **{"schedule.name": "plateau", "schedule.patience": 1, "train.early_stopping": 3}
    )
    whole = train(config, tmp_path / "whole")
    left = iter(range(dispatches))
    split = parallel.split_batches

    def interrupting(*args, **options):
        if next(left, None) == dispatches - 1:
            signal.raise_signal(signal.SIGTERM)
        return split(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(inputs, "split_batches", interrupting)
        with pytest.raises(Interrupted) as stop:
            train(config, tmp_path / "resumed")
    assert stop.value.exit_status == 143
    resumed = train(config, tmp_path / "resumed")
    assert final_hashes(resumed) == final_hashes(whole)
    assert without_times(resumed.history) == without_times(whole.history)
    assert resumed.steps == whole.steps and [point["step"] for point in whole.steps] == list(
        range(1, whole.history[-1]["step"] + 1)
    )
    first = whole.steps[: whole.history[0]["step"]]
    assert np.isclose(np.mean([point["loss"] for point in first]), whole.history[0]["train_loss"])
    assert np.isclose(
        np.mean([point["accuracy"] for point in first]), whole.history[0]["train_accuracy"]
    )


def averaged_config(**changes):
    return small_config(
        **{
            "train.ema_decay": 0.9,
            "optimizer.name": "sgd",
            "optimizer.learning_rate": 0.05,
            "train.epochs": 2,
            **changes,
        }
    )


def test_the_running_average_is_what_is_kept(tmp_path):
    """Against an average taken by hand of the weights after every step."""
    config, seen = averaged_config(**{"train.epochs": 1, "train.steps_per_dispatch": 1}), []
    training = loop._Training(config, begin(config, tmp_path / "run"), DATA)
    average, train = parallel.fetch(training.state.params), training.phase.train

    def watched(*args):
        state, metrics = train(*args)
        seen.append(parallel.fetch(state.params))
        return state, metrics

    training.phases = [dataclasses.replace(training.phase, train=watched)]
    training.run()
    training.close()
    for step, params in enumerate(seen, 1):
        keep = min(0.9, step / (10 + step))
        average = jax.tree.map(lambda a, p, keep=keep: keep * a + (1 - keep) * p, average, params)
    checkpoints = Checkpoints(tmp_path / "run" / CHECKPOINTS, read_only=True)
    _, kept = checkpoints.restore_best()
    checkpoints.close()
    assert len(seen) == 10
    for path, leaf in trees.flatten(kept["params"]).items():
        np.testing.assert_allclose(leaf, trees.flatten(average)[path], atol=1e-5)


def test_weights_and_average_both_go_on_after_a_resumption(tmp_path):
    whole = train(averaged_config(), tmp_path / "whole")
    train(averaged_config(**{"train.epochs": 1}), tmp_path / "resumed")
    assert final_hashes(train(averaged_config(), tmp_path / "resumed")) == final_hashes(whole)


def initializer(model, transform, images=DATA.train.images):
    return Initializer(model, jax.eval_shape(transform, images[:1]), seed=0)


def test_views_are_averaged(tmp_path):
    model, transform = setup.build_model(small_config(), num_classes=4)
    params = initializer(model, transform).variables["params"]
    config = small_config(**{"train.tta": "flip"})
    predict = setup.build_predict(config, model, transform)
    images = DATA.test.images[:20]
    one, other = (
        model.apply({"params": params}, parse("")(each)) for each in (images, images[:, :, ::-1])
    )
    logits = predict(parallel.replicate({"params": params}), parallel.replicate(images))
    np.testing.assert_allclose(logits, (one + other) / 2, atol=1e-5)


def test_fewer_passes_of_the_compiler_give_the_same_first_weights(monkeypatch):
    model, transform = setup.build_model(small_config(**{"model.name": "cnn"}), num_classes=4)
    images = np.zeros((1, 28, 28, 1), np.uint8)
    drawn = initializer(model, transform, images).variables
    monkeypatch.setattr("imgcls_jax.training.initializer.FEWER_PASSES", None)
    expected = initializer(model, transform, images).variables
    jax.tree.map(np.testing.assert_array_equal, drawn, expected)
    expected = jax.jit(model.init)(jax.random.key(0), transform(images))
    jax.tree.map(np.testing.assert_array_equal, drawn, expected)


def scripted(monkeypatch, accuracies):
    """Makes validation report these accuracies, in turn."""
    values = iter(accuracies)
    monkeypatch.setattr(
        loop._Training, "_validate", lambda self: {"loss": 1.0, "accuracy": next(values)}
    )


def test_early_stopping_and_the_best_epoch(tmp_path, monkeypatch):
    scripted(monkeypatch, [0.5, 0.7, 0.7, math.nan, 0.6])
    run = train(small_config(**{"train.epochs": 9, "train.early_stopping": 3}), tmp_path / "run")
    assert len(run.history) == 5
    checkpoints = Checkpoints(run.path / CHECKPOINTS, read_only=True)
    params = shapes(initializer(*setup.build_model(small_config(), num_classes=4)).shapes["params"])
    assert checkpoints.restore_best({"params": params, "model_state": {}})[0] == 20
    checkpoints.close()


def test_plateau_lowers_the_rate_and_not_below_the_minimum(tmp_path, monkeypatch, caplog):
    scripted(monkeypatch, [0.5, 0.5, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6])
    options = {
        "schedule.name": "plateau",
        "schedule.patience": 2,
        "schedule.factor": 0.5,
        "schedule.min_rate": 4e-4,
    }
    with caplog.at_level("INFO"):
        run = train(small_config(**options, **{"train.epochs": 10}), tmp_path / "run")
    rates = [line["learning_rate"] for line in run.history]
    np.testing.assert_allclose(rates, [1e-3] * 3 + [5e-4] * 3 + [4e-4] * 4, rtol=1e-6)
    assert caplog.text.count("The learning rate falls to") == 2


def test_a_loss_that_is_not_finite_names_step_rate_and_checkpoint(tmp_path):
    with pytest.raises(
        TrainingError, match=r"at step \d+ \(epoch 1, learning rate 1e\+30\).*no checkpoint yet"
    ):
        train(
            small_config(**{"optimizer.learning_rate": 1e30, "optimizer.name": "sgd"}),
            tmp_path / "run",
        )
    assert RunFolder(tmp_path / "run").history == []


def test_bfloat16_trains_with_float32_parameters(tmp_path):
    run = train(
        small_config(**{"train.precision": "bfloat16", "train.epochs": 8}), tmp_path / "run"
    )
    assert run.history[-1]["validation_accuracy"] > 0.8


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"train.batch_size": 21}, "train.batch_size is 21.*2 devices: give 20"),
        ({"train.eval_batch_size": 5}, "train.eval_batch_size is 5"),
        ({"train.batch_size": 212}, "only 210 images"),
        ({"train.epochs": 0}, "train.epochs is 0: give 1 or more"),
        ({"train.label_smoothing": 1.0}, "train.label_smoothing is 1.0"),
        ({"train.ema_decay": 1.0}, "train.ema_decay is 1.0"),
        ({"train.tta": "flips"}, "Did you mean 'flip'"),
        ({"model.max_parameters": 1000}, "has [0-9,]+ trainable parameters, more than the 1,000"),
        ({"train.monitor": "accurac"}, "Did you mean 'accuracy'"),
        ({"train.precision": "float16"}, "Did you mean '[b]?float"),
        (
            {"model.name": "cnn", "model.filters": (4, 4, 4)},
            "cannot be built for images of 8x8x1.*resize",
        ),
        ({"data.transform": "flop"}, "flip"),
    ],
)
def test_what_cannot_be_trained_is_refused(tmp_path, changes, message):
    config = small_config()
    config.unlock()
    config.update_from_flattened_dict(
        changes
    ) if "model.filters" not in changes else config.model.update(name="cnn", filters=(4, 4, 4))
    with pytest.raises(ConfigError, match=message):
        train(config, tmp_path / "run")


def test_training_compiles_once(tmp_path, caplog):
    train(small_config(), tmp_path / "first")  # compiles what is small and the same for every run
    with jax.log_compiles(), caplog.at_level(logging.WARNING, logger="jax"):
        train(small_config(), tmp_path / "run")
    compiled = [
        record.getMessage()
        for record in caplog.records
        if "Finished XLA compilation" in record.getMessage()
    ]
    assert len(compiled) == 3, compiled  # initialisation, training, prediction


def test_steps_are_traced_once(tmp_path, monkeypatch):
    """For their shapes and for the loop together: of deep models that takes seconds."""
    traced = []
    for name in ("train_step", "eval_step"):
        step = getattr(dispatch, name)

        def counting(*arguments, name=name, step=step, **options):
            traced.append(name)
            return step(*arguments, **options)

        monkeypatch.setattr(dispatch, name, counting)
    train(small_config(), tmp_path / "run")
    assert sorted(traced) == ["eval_step", "train_step"]


def test_devices_hold_the_same_state():
    """What is not averaged over the devices would drift apart without an error."""
    config = small_config()
    model, transform = setup.build_model(config, num_classes=4)
    params = initializer(model, transform).variables["params"]
    optimizer = optimizers.create(config.optimizer, lambda _: 1e-2)
    recipe = Recipe(model=model, optimizer=optimizer, objective=Labels(LabelLoss(0.1)))
    step = dispatch.make_train(recipe, transform, steps_per_epoch=10, seed=0)
    state = TrainState.create(params, {}, optimizer.init(params))
    batches = epoch_batches(210, 20, seed=0, epoch=0)
    state, metrics = step(
        parallel.replicate(state),
        inputs.place(DATA.train),
        parallel.split_batches(batches[:3], 4),
        3,
    )
    assert int(parallel.fetch(state.step)) == 3
    for path, leaf in trees.flatten((state, metrics)).items():
        one, other = (np.asarray(shard.data) for shard in leaf.addressable_shards)
        assert np.array_equal(one, other), path


@pytest.mark.parametrize("text", ["mixup(1.)", "random_crop(1)|cutmix"])
def test_mixing_trains_the_same_on_any_number_of_devices(text, tmp_path):
    """Partners are of the whole batch: one device's losses, by hand, are those of two."""
    config = small_config(**{"data.transform": text})
    built = setup.build(config, DATA)[0]
    model, transform = setup.build_model(config, num_classes=4)
    index = epoch_batches(210, 20, seed=0, epoch=0)[0]
    state = built.drawn_state()
    params = jax.tree.map(np.array, state.params)  # the step takes the memory of those given
    _, metrics = built.train(
        parallel.replicate(state),
        inputs.place(DATA.train),
        parallel.split_batches(index[None], 1),
        1,
    )

    augment_key, _ = jax.random.split(jax.random.fold_in(jax.random.key(0), 0))
    keys = jax.vmap(jax.random.fold_in, (None, 0))(augment_key, jnp.arange(20))
    x, labels = transform(DATA.train.images[index], keys), DATA.train.labels[index]
    x, share = transform.mix(
        x, x[::-1], jax.vmap(jax.random.fold_in, (0, None))(keys, len(transform.ops))
    )
    log_p = jax.nn.log_softmax(model.apply({"params": params}, x))
    places = np.arange(20)
    expected = -(share * log_p[places, labels] + (1 - share) * log_p[places, labels[::-1]]).mean()
    loss = parallel.fetch(metrics).loss
    np.testing.assert_allclose(loss.total[0] / loss.count[0], expected, rtol=1e-5)


def test_prediction_does_not_depend_on_the_batch():
    model, transform = setup.build_model(small_config(), num_classes=4)
    params = initializer(model, transform).variables["params"]
    images = DATA.test.images[:13]
    expected = model.apply({"params": params}, parse("")(images))
    for batch_size in (2, 8, 26):
        predict = dispatch.make_predict(model, transform, batch_size=batch_size)
        logits = predict(parallel.replicate({"params": params}), parallel.replicate(images))
        np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_an_epoch_takes_each_example_once_at_most_in_an_order_of_its_own():
    one, same, next_epoch, other_seed = (
        epoch_batches(103, 10, seed=seed, epoch=epoch)
        for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0))
    )
    assert one.shape == (10, 10) and len(set(one.flat)) == 100 and set(one.flat) <= set(range(103))
    assert (one == same).all() and (one != next_epoch).any() and (one != other_seed).any()


def test_a_run_starts_from_the_weights_of_another(tmp_path, caplog):
    """The classifier is taken where it has as many classes; the preprocessing comes along."""
    first = train(small_config(), tmp_path / "first")
    begin(small_config(), first.path)
    config = small_config(
        **{
            "model.pretrained": str(first.path),
            "data.transform": "",
            "optimizer.learning_rate": 1e-6,
        }
    )
    config = pretrained.resolve(config)
    assert config.data.transform == "random_crop(1)"
    second = train(config, tmp_path / "second")
    assert second.history[0]["validation_accuracy"] == pytest.approx(
        first.history[-1]["validation_accuracy"], abs=0.02
    )

    six = {"train": DATA.train, "validation": DATA.validation}
    six = {
        split: dataclasses.replace(dataset, class_names=tuple("abcdef"))
        for split, dataset in six.items()
    }
    other = dataclasses.replace(DATA, **six)
    with caplog.at_level(logging.INFO):
        loop.train(config, begin(config, tmp_path / "third"), other)
    assert "Not taken from" in caplog.text and "params/classifier/kernel" in caplog.text


def test_weights_that_do_not_fit_are_refused(tmp_path):
    first = train(small_config(**{"train.epochs": 1}), tmp_path / "first")
    config = small_config(**{"model.pretrained": str(first.path)})
    config.model.update(name="lstm")
    with pytest.raises(DataError, match="does not fit the model"):
        train(config, tmp_path / "second")
    config.model.pretrained = "resnet50_v2"
    with pytest.raises(ConfigError, match="weights of the model 'resnet50', not of 'lstm'"):
        pretrained.resolve(config)


def test_another_transform_than_the_weights_is_warned_of(caplog, monkeypatch):
    config = small_config(**{"model.name": "googlenet", "model.pretrained": "googlenet_v1"})
    resolved = pretrained.resolve(config)
    monkeypatch.setattr(pretrained, "read", lambda *_, **__: {})
    monkeypatch.setattr(pretrained, "_classifier_to_skip", lambda *_: ())
    monkeypatch.setattr(pretrained, "fit", lambda arrays, *, expected, **_: expected)
    with caplog.at_level(logging.WARNING):
        pretrained.initialize(resolved, {})
    assert "random_crop(1)" in caplog.text and resolved.data.transform == "random_crop(1)"
    assert resolved.model.transform_input is True and "transform_input" not in config.model


def test_profile_writes_a_trace_and_counts_the_flops_of_a_step(tmp_path):
    config = small_config(**{"data.transform": ""})
    figures = profiling.profile(config, DATA, tmp_path)
    assert list(tmp_path.rglob("perfetto_trace.json.gz")) and list(tmp_path.rglob("*.xplane.pb"))
    # Two FLOPs for each product of the dense layers, three times as much with the backward pass, less the first dx.
    rows, width, hidden, classes, batch = 8, 64, 128, 4, 20
    dense = (
        rows * 8 * width
        + 3 * rows * width**2
        + 2 * rows**2 * width
        + rows * width * hidden
        + hidden * classes
    )
    assert figures["flops_per_step"] == pytest.approx(6 * batch * dense, rel=0.2)
    assert figures["share_of_peak"] is None and "ms a step" in profiling.describe(figures, tmp_path)
