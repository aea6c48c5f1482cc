"""Unbalanced classes: each loss against NumPy, what the sampler draws, and that all of it resumes."""

import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from quadrants import quadrants
from scipy import special
from sklearn.utils.class_weight import compute_class_weight

from configs import base
from imgcls_jax import trees
from imgcls_jax.data import Splits
from imgcls_jax.data.batches import balanced_batches, epoch_batches
from imgcls_jax.errors import ConfigError
from imgcls_jax.evaluation import teacher
from imgcls_jax.run.checkpoints import Checkpoints
from imgcls_jax.run.folder import CHECKPOINTS, RunFolder
from imgcls_jax.training import balance, inputs, loop, parallel, setup
from imgcls_jax.training.interrupt import Interrupted
from imgcls_jax.training.losses import LabelLoss, cross_entropy

LOGITS = np.random.default_rng(0).normal(0, 3, size=(50, 4)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, 4, 50)
WEIGHTS = np.array([0.5, 1.0, 2.0, 0.0])
OFFSETS = np.log([0.7, 0.2, 0.08, 0.02])


def slow_loss(*, smoothing=0.0, focal_gamma=0.0, class_weights=(1, 1, 1, 1), logit_offsets=0.0):
    """By the formulas, an example at a time."""
    losses = []
    for logits, label in zip(LOGITS, LABELS, strict=True):
        p = special.softmax(logits.astype(np.float64) + logit_offsets)
        targets = (1 - smoothing) * np.eye(4)[label] + smoothing / 4
        loss = -(targets * np.log(p)).sum()
        losses.append(class_weights[label] * (1 - p[label]) ** focal_gamma * loss)
    return np.array(losses)


@pytest.mark.parametrize(
    "options",
    [
        {"class_weights": WEIGHTS},
        {"focal_gamma": 2.0},
        {"focal_gamma": 0.5, "smoothing": 0.1},
        {"logit_offsets": OFFSETS},
        {
            "class_weights": WEIGHTS,
            "focal_gamma": 1.0,
            "logit_offsets": OFFSETS,
            "smoothing": 0.2,
        },
    ],
)
def test_losses_are_those_of_the_formulas(options):
    losses = LabelLoss(**options)(jnp.asarray(LOGITS), jnp.asarray(LABELS))
    np.testing.assert_allclose(losses, slow_loss(**options), rtol=1e-4, atol=1e-6)


def test_without_options_the_loss_is_cross_entropy_to_the_bit():
    loss = cross_entropy(jnp.asarray(LOGITS), LABELS, smoothing=0.1)
    assert np.array_equal(LabelLoss(smoothing=0.1)(jnp.asarray(LOGITS), LABELS), loss)


def test_the_focal_gradient_of_what_is_certain_is_finite():
    logits = jnp.array([[90.0, 0.0], [-90.0, 0.0], [0.0, 0.0]])
    loss = LabelLoss(focal_gamma=0.5)
    gradient = jax.grad(lambda logits: loss(logits, jnp.zeros(3, jnp.int32)).sum())(logits)
    assert np.isfinite(gradient).all() and gradient[1, 0] == pytest.approx(-1)


def test_balanced_weights_are_scikit_learns():
    labels = np.repeat([0, 1, 3], [60, 30, 10])
    expected = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=labels)
    weights = balance.balanced_weights(np.bincount(labels) / 100)
    np.testing.assert_allclose(weights, [expected[0], expected[1], 0, expected[2]])


def unbalanced(count, seed):
    """Of four classes the first has most of the images, and the last the fewest."""
    data = quadrants(count, seed)
    ranks = np.concatenate([np.arange((data.labels == k).sum()) for k in range(4)])
    by_class = np.argsort(data.labels, kind="stable")
    kept = by_class[ranks < np.array([40, 20, 10, 5])[data.labels[by_class]]]
    return data.take(np.sort(kept))


DATA = Splits(
    train=unbalanced(240, 0), validation=unbalanced(240, 1), test=quadrants(60, 2), report={}
)


def small_config(**changes):
    config = base.get_config()
    config.model.name = "attention"
    config.train.update(epochs=3, batch_size=10, eval_batch_size=20, steps_per_dispatch=4)
    config.update_from_flattened_dict(changes)
    return config


def test_options_become_the_loss_of_the_classes():
    config = small_config(**{"train.class_weights": "balanced", "train.logit_adjustment": 0.5})
    loss = balance.label_loss(config, DATA.train)
    shares = np.array([40, 20, 10, 5]) / 75
    np.testing.assert_allclose(loss.class_weights, 1 / (4 * shares))
    np.testing.assert_allclose(loss.logit_offsets, 0.5 * np.log([0.25] * 4))  # weights balance all
    config.train.class_weights = ""
    loss = balance.label_loss(config, DATA.train)
    np.testing.assert_allclose(loss.logit_offsets, 0.5 * np.log(shares))
    config.train.class_weights = "d=8"
    loss = balance.label_loss(config, DATA.train)
    np.testing.assert_allclose(loss.logit_offsets, 0.5 * np.log(np.array([40, 20, 10, 40]) / 110))
    config.train.class_weights = "b=2|d=.5"
    assert balance.label_loss(config, DATA.train).class_weights.tolist() == [1, 2, 1, 0.5]
    assert balance.label_loss(small_config(), DATA.train) == LabelLoss()


def test_what_sampling_has_balanced_is_not_balanced_again():
    config = small_config(**{"train.class_weights": "balanced", "train.logit_adjustment": 1.0})
    config.train.balanced_sampling = 1.0
    loss = balance.label_loss(config, DATA.train)
    np.testing.assert_allclose(loss.class_weights, np.ones(4))
    np.testing.assert_allclose(loss.logit_offsets, np.log(0.25))


@pytest.mark.parametrize(
    "weights, message",
    [
        ("balance", "train.class_weights has 'balance': give 'balanced', or each class once"),
        ("a=1|a=2", "has 'a=2'"),
        ("a=-1", "has 'a=-1'"),
        ("a=inf", "has 'a=inf'"),
        ("a=much", "has 'a=much'"),
    ],
)
def test_weights_that_cannot_be_read_are_refused_without_data(weights, message):
    config = small_config(**{"train.class_weights": weights})
    with pytest.raises(ConfigError, match=message):
        setup.check_options(config)


def test_weights_of_a_class_that_is_not_there_are_refused_before_any_work():
    config = small_config(**{"train.class_weights": "a=2|e=3"})
    with pytest.raises(ConfigError, match="the class 'e', which is not in the data.*: a, b, c, d."):
        teacher.add_predictions(config, DATA)


# Sampling


@pytest.mark.parametrize("strength, counts", [(1.0, [250] * 4), (0.5, [400, 300, 200, 100])])
def test_an_epoch_has_the_classes_it_should_have(strength, counts):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(4), [480, 270, 120, 30]))
    batches = balanced_batches(labels, 10, balance=strength, seed=0, epoch=0)
    assert batches.shape == (90, 10) and batches.dtype == np.int32
    drawn = np.bincount(labels[batches.ravel()])
    assert np.abs(drawn - 0.9 * np.array(counts)).max() < 1
    for label in range(4):
        times = np.bincount(batches.ravel(), minlength=len(labels))[labels == label]
        assert times.max() - times.min() <= 1  # no image of a class more often than another


def test_the_sampler_follows_seed_and_epoch_alone():
    labels = DATA.train.labels

    def draw(seed, epoch):
        return balanced_batches(labels, 10, balance=1.0, seed=seed, epoch=epoch)

    assert np.array_equal(draw(3, 5), draw(3, 5))
    assert not np.array_equal(draw(3, 5), draw(3, 6))
    assert not np.array_equal(draw(3, 5), draw(4, 5))
    usual = epoch_batches(len(labels), 10, seed=3, epoch=5)
    assert np.array_equal(balanced_batches(labels, 10, balance=0.0, seed=3, epoch=5), usual)


EVERYTHING = {
    "train.class_weights": "b=2|d=3",
    "train.focal_gamma": 1.0,
    "train.logit_adjustment": 1.0,
    "train.balanced_sampling": 0.5,
    "train.monitor": "balanced_accuracy",
    "data.transform": "random_crop(1)|mixup(.2)",
}


def train(config, path) -> RunFolder:
    run = RunFolder(path)
    path.mkdir(exist_ok=True)
    run.write_json("config.json", config.to_dict())
    run.write_json("data.json", {"class_names": DATA.train.class_names})
    loop.train(config, run, DATA)
    return run


def hashes(run):
    """Of model and training state in the newest checkpoint."""
    newest = max(int(child.name) for child in (run.path / CHECKPOINTS).glob("[0-9]*"))
    folder = RunFolder(run.path / CHECKPOINTS / str(newest))
    return newest, folder.read_json("progress/metadata")["hashes"]


def test_interrupted_in_mid_epoch_it_resumes_to_the_same_bits(tmp_path, monkeypatch):
    whole = train(small_config(**EVERYTHING), tmp_path / "whole")
    calls = []
    split = parallel.split_batches

    def interrupting(*args, **options):
        calls.append(args)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGTERM)
        return split(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(inputs, "split_batches", interrupting)
        with pytest.raises(Interrupted):
            train(small_config(**EVERYTHING), tmp_path / "resumed")
    resumed = train(small_config(**EVERYTHING), tmp_path / "resumed")
    assert hashes(resumed) == hashes(whole)
    assert hashes(whole)[0] == 3 * (len(DATA.train) // 10)

    checkpoints = Checkpoints(whole.path / CHECKPOINTS, read_only=True)
    kept, _ = checkpoints.restore_best()
    checkpoints.close()
    best = max(whole.history, key=lambda line: line["validation_balanced_accuracy"])
    assert kept == best["step"]  # as `train.monitor` says


def test_pmap_and_shard_map_give_the_same_bits():
    digests = set()
    for backend in parallel.BACKENDS:
        config = small_config(**EVERYTHING, **{"train.parallel": backend})
        (phase,) = setup.build(config, DATA)
        state = parallel.replicate(phase.drawn_state(), to_donate=True)
        batches = balanced_batches(DATA.train.labels, 10, balance=0.5, seed=0, epoch=0)
        feed = inputs.Feed(inputs.place(DATA.train), batches, most=4)
        state, _ = phase.train(state, *feed.take(feed.ready()))
        digests.add(trees.digest(parallel.fetch(state)))
    assert len(digests) == 1


def test_a_phase_may_balance_what_the_one_before_did_not(tmp_path):
    config = small_config(**{"train.epochs": 1})
    head = {"balanced_sampling": 1.0, "logit_adjustment": 1.0}
    config.adapt.phases = ConfigDict(
        {"1_all": {}, "2_head": {"adapt": {"trainable": ("^classifier/",)}, "train": head}}
    )
    run = train(config, tmp_path / "run")
    assert [line["phase"] for line in run.history] == [1, 2]
    _, second = setup.build(config, DATA)
    assert second.config.train.balanced_sampling == 1.0
