"""What a step learns from: losses against slow NumPy, and what reaches which parameters."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from quadrants import quadrants
from scipy import special

from configs import base
from imgcls_jax import api, models, pretrained, trees
from imgcls_jax.data import Splits
from imgcls_jax.data.transforms import parse
from imgcls_jax.errors import ConfigError, RunError
from imgcls_jax.evaluation import predict, teacher
from imgcls_jax.evaluation.predict import Predictor
from imgcls_jax.models.batch_axis import AXIS
from imgcls_jax.run.folder import RunFolder
from imgcls_jax.training import loop, objectives, setup
from imgcls_jax.training.losses import divergence, nt_xent
from tests.old_runs import small


def slow_nt_xent(one, other, temperature):
    """By the formula, a pair at a time; the mean of both directions of each pair."""
    z = np.concatenate([one, other])
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    count, losses = len(one), []
    for i in range(2 * count):
        partner = (i + count) % (2 * count)
        terms = {k: np.exp(z[i] @ z[k] / temperature) for k in range(2 * count) if k != i}
        losses.append(-np.log(terms[partner] / sum(terms.values())))
    return (np.array(losses[:count]) + losses[count:]) / 2


def test_nt_xent_on_one_device_and_over_two():
    one, other = np.random.default_rng(0).normal(size=(2, 6, 5)).astype(np.float32)
    expected = slow_nt_xent(one, other, 0.3)
    np.testing.assert_allclose(nt_xent(one, other, temperature=0.3), expected, rtol=1e-5)
    halves = jax.pmap(lambda *each: nt_xent(*each, temperature=0.3), axis_name=AXIS)(
        one.reshape(2, 3, 5), other.reshape(2, 3, 5)
    )
    np.testing.assert_allclose(halves.reshape(-1), expected, rtol=1e-5)


def test_the_gradient_of_nt_xent_over_two_devices_is_that_on_one():
    one, other = np.random.default_rng(1).normal(size=(2, 6, 5)).astype(np.float32)
    matrix = np.random.default_rng(2).normal(size=(5, 5)).astype(np.float32)

    def loss(matrix, one, other):
        return nt_xent(one @ matrix, other @ matrix, temperature=0.5).mean()

    over_two = jax.pmap(
        lambda *each: jax.lax.pmean(jax.grad(loss)(*each), AXIS),
        axis_name=AXIS,
        in_axes=(None, 0, 0),
    )(matrix, one.reshape(2, 3, 5), other.reshape(2, 3, 5))
    np.testing.assert_allclose(over_two[0], jax.grad(loss)(matrix, one, other), atol=1e-6)


def test_divergence_is_scipys_and_nothing_for_equal_logits():
    taught, logits = np.random.default_rng(0).normal(size=(2, 7, 4))
    found = divergence(jnp.asarray(taught), jnp.asarray(logits), temperature=3.0)
    p, q = special.softmax(taught / 3, -1), special.softmax(logits / 3, -1)
    np.testing.assert_allclose(found, 9 * special.rel_entr(p, q).sum(-1), rtol=1e-4)
    np.testing.assert_allclose(
        divergence(jnp.asarray(taught), jnp.asarray(taught + 2), temperature=3.0), 0, atol=1e-5
    )


CLEAR = {"noise": 120, "brighter": 120}
DATA = Splits(
    *(quadrants(count, seed, **CLEAR) for seed, count in enumerate((210, 60, 60))), report={}
)


def small_config(model, objective, **changes):
    config = base.get_config()
    config.model = ConfigDict({"pretrained": ""} | model)
    config.objective = ConfigDict(objective)
    config.train.update(epochs=2, batch_size=20, eval_batch_size=20)
    config.adapt.feature_folder = ""
    config.update_from_flattened_dict(changes)
    return config


def train(config, path, data=DATA) -> RunFolder:
    run = RunFolder(path)
    path.mkdir(exist_ok=True)
    run.write_json("config.json", config.to_dict())
    split = {"shape": data.train.images.shape[1:], "pixel_mean": 120.0}
    run.write_json("data.json", {"class_names": data.train.class_names, "splits": {"train": split}})
    loop.train(config, run, data)
    predict.test(run, data)
    return run


ATTENTION = {"name": "attention"}
CONTRASTIVE = {"name": "simclr", "backbone": "attention", "projection": 16}


@pytest.fixture(scope="module")
def teaching(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher") / "run"
    return train(small_config(ATTENTION, {}, **{"train.epochs": 6}), folder)


def test_a_student_learns_what_the_teacher_says(teaching, tmp_path):
    """Its labels are all wrong, and have no weight."""
    wrong = dataclasses.replace(DATA.train, labels=(DATA.train.labels + 1) % 4)
    objective = {
        "name": "distill",
        "teacher": str(teaching.path),
        "temperature": 2.0,
        "weight": 1.0,
    }
    config = small_config(ATTENTION, objective, **{"train.epochs": 8})
    taught = teacher.add_predictions(config, dataclasses.replace(DATA, train=wrong))
    assert taught.train.teacher.shape == (210, 4)
    np.testing.assert_allclose(np.exp(taught.train.teacher).sum(-1), 1, atol=1e-5)
    student = train(config, tmp_path / "student", taught)
    agree = (student.predictions[0].argmax(-1) == teaching.predictions[0].argmax(-1)).mean()
    assert agree > 0.8 and student.history[-1]["train_accuracy"] < 0.2 < student.test["accuracy"]


def test_the_teacher_looks_once(teaching, tmp_path, monkeypatch):
    config = small_config(ATTENTION, {"name": "distill", "teacher": str(teaching.path)})
    monkeypatch.setattr(teacher, "CHUNK_SIZE", 64)
    first = teacher.add_predictions(config, DATA, tmp_path / "teacher.npz")
    expected = Predictor(teaching).probabilities(DATA.train.images)
    np.testing.assert_allclose(np.exp(first.train.teacher), expected, atol=1e-6)
    monkeypatch.setattr(teacher, "_probabilities", None)
    again = teacher.add_predictions(config, DATA, tmp_path / "teacher.npz")
    assert np.array_equal(again.train.teacher, first.train.teacher)
    assert np.array_equal(first.train.take(np.array([3, 1])).teacher, first.train.teacher[[3, 1]])


def test_without_a_checkpoint_the_teacher_named_now_is_the_one(tmp_path, monkeypatch):
    """The first attempt was stopped in its first epoch, and had another teacher."""

    def load(name):
        probabilities = np.eye(10)[int(name)]
        return types.SimpleNamespace(
            name=name,
            class_names=tuple("0123456789"),
            shape=(8, 8, 1),
            probabilities=lambda images: np.tile(probabilities, (len(images), 1)),
        )

    def stop(config, run, data):
        taught.append(data.train.teacher.argmax(-1))
        raise KeyboardInterrupt

    taught = []
    monkeypatch.setattr(teacher.classifiers, "load", load)
    monkeypatch.setattr(loop, "train", stop)
    config = small.get_config()
    for name in "37":
        config.objective = {"name": "distill", "teacher": name}
        with pytest.raises(KeyboardInterrupt):
            api.train(config, tmp_path / "run")
    assert [set(classes) for classes in taught] == [{3}, {7}]


def test_a_teacher_of_other_classes_is_refused(teaching):
    config = small_config(ATTENTION, {"name": "distill", "teacher": str(teaching.path)})
    other = dataclasses.replace(DATA.train, class_names=("a", "b", "c", "x"))
    with pytest.raises(
        ConfigError, match="knows classes a, b, c, d; these are a, b, c, x: it cannot teach"
    ):
        teacher.add_predictions(config, dataclasses.replace(DATA, train=other))
    other = dataclasses.replace(DATA.train, images=DATA.train.images[:, 1:])
    with pytest.raises(ConfigError, match="knows images of the shape 8, 8, 1; these are 7, 8, 1"):
        teacher.add_predictions(config, dataclasses.replace(DATA, train=other))


def test_no_label_reaches_the_backbone_of_simclr(tmp_path):
    changes = {"data.transform": "random_resized_crop(.6)", "train.epochs": 1}
    config = small_config(CONTRASTIVE, {"name": "simclr"}, **changes)
    shuffled = dataclasses.replace(
        DATA, train=dataclasses.replace(DATA.train, labels=DATA.train.labels[::-1].copy())
    )
    runs = [train(config, tmp_path / str(n), data) for n, data in enumerate((DATA, shuffled))]
    one, other = (trees.flatten(Predictor(run).variables["params"]) for run in runs)
    for path in one:
        assert np.array_equal(one[path], other[path]) != path.startswith("classifier/"), path
    start = first_parameters(config)
    moved = {path.split("/")[0] for path in one if not np.array_equal(one[path], start[path])}
    assert moved == {"backbone", "projector", "classifier"}


def first_parameters(config):
    (built,) = setup.build(config, DATA)
    return trees.flatten(built.drawn_state().params)


def test_a_linear_probe_on_what_simclr_has_learned(tmp_path):
    """The features are those of the run, bit by bit, and computed once."""
    before = train(
        small_config(
            CONTRASTIVE, {"name": "simclr"}, **{"data.transform": "random_resized_crop(.6)"}
        ),
        tmp_path / "a",
    )
    changes = {
        "adapt.trainable": ("^classifier/",),
        "optimizer.learning_rate": 0.02,
        "train.epochs": 5,
    }
    config = small_config(CONTRASTIVE | {"pretrained": str(before.path)}, {}, **changes)
    config = pretrained.resolve(config)
    after = train(config, tmp_path / "b")
    one, other = (trees.flatten(Predictor(run).variables["params"]) for run in (before, after))
    assert {path.split("/")[0] for path in one if not np.array_equal(one[path], other[path])} == {
        "classifier"
    }
    assert after.test["trainable"] == 512 * 4 + 4


@pytest.mark.parametrize(
    "objective, message",
    [
        ({"name": "distil"}, "Did you mean 'distill'"),
        ({"name": "distill"}, "belong together: give the folder of a run"),
        ({"teacher": "runs/x"}, "belong together"),
        (
            {"name": "simclr", "temprature": 1.0},
            "no option 'temprature' for SimCLR: it has temperature",
        ),
    ],
)
def test_bad_options_are_refused(objective, message):
    with pytest.raises(ConfigError, match=message):
        objectives.create(small_config(ATTENTION, objective))


def test_simclr_needs_its_model_and_unmixed_images():
    config = small_config(CONTRASTIVE, {"name": "simclr"})
    for model, transform in ((ATTENTION, ""), (CONTRASTIVE, "mixup(.2)")):
        model = models.create(ConfigDict(model), num_classes=4)
        with pytest.raises(ConfigError, match="needs a projection and no mixing"):
            objectives.create(config, model, parse(transform))
    with pytest.raises(ConfigError, match="backbone is 'hybrid'"):
        models.create(ConfigDict(CONTRASTIVE | {"backbone": "hybrid"}), num_classes=4)


@pytest.mark.parametrize("damage", ["no file", "classes", "not finite"])
def test_damaged_predictions_of_a_teacher_are_named(damage, tmp_path):
    train = quadrants(30, 0)
    file = tmp_path / "teacher.npz"
    predictions = np.full((30, 4), np.log(0.25), np.float32)
    if damage == "classes":
        predictions = predictions[:, 1:]
    if damage == "not finite":
        predictions[3, 2] = np.nan
    np.savez(file, log_probabilities=predictions, fingerprint=np.array(train.fingerprint))
    if damage == "no file":
        file.write_bytes(b"PK")
    with pytest.raises(RunError, match="teacher.npz is damaged .* Delete it"):
        teacher._saved_predictions(file, train)
