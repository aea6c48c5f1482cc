"""What trains, what is frozen, what is computed once: on a small residual network."""

import jax
import numpy as np
import pytest
from residual import DATA, changed, small_config, train, without_times

from imgcls_jax import pretrained, trees
from imgcls_jax.errors import ConfigError
from imgcls_jax.evaluation.predict import Predictor
from imgcls_jax.models.lora import KEY
from imgcls_jax.run.checkpoints import Checkpoints
from imgcls_jax.run.folder import CHECKPOINTS, RunFolder
from imgcls_jax.training import inputs, parallel, setup
from imgcls_jax.training.initializer import Initializer


def before_and_after(config, path):
    """Parameters and statistics by path, of the initial state and of the newest checkpoint."""
    state = setup.build(config, DATA)[0].drawn_state()
    run = train(config, path)
    checkpoints = Checkpoints(run.path / CHECKPOINTS, read_only=True)
    _, model = checkpoints.restore_best()
    checkpoints.close()
    first = trees.flatten({"params": state.params, **state.model_state})
    return first, trees.flatten({"params": model["params"], **model["model_state"]})


def test_frozen_leaves_and_statistics_keep_their_bits_and_all_others_change(tmp_path):
    config = small_config(
        **{"adapt.trainable": ("^layer2_0/(conv2|bn2)", "^classifier/"), "train.epochs": 1}
    )
    first, last = before_and_after(config, tmp_path / "run")
    expected = {
        path
        for path in first
        if "layer2_0/conv2/" in path or "layer2_0/bn2/" in path or "classifier" in path
    }
    # A bias before BatchNorm has no gradient but rounding's; all else that may change does.
    assert changed(first, last) | {"params/layer2_0/conv2/bias"} == expected


def test_statistics_are_updated_where_that_is_asked_for(tmp_path):
    config = small_config(
        **{
            "adapt.trainable": ("^classifier/",),
            "adapt.frozen_statistics": "update",
            "train.epochs": 1,
        }
    )
    first, last = before_and_after(config, tmp_path / "run")
    statistics = {path for path in first if path.startswith("batch_stats/")}
    assert changed(first, last) == statistics | {
        "params/classifier/kernel",
        "params/classifier/bias",
    }


def test_low_rank_pairs_train_and_come_back_unmerged(tmp_path):
    options = {
        "adapt.lora.targets": ("conv1/kernel", "layer2_0/conv_shortcut"),
        "adapt.lora.rank": 2,
    }
    config = small_config(**options, **{"adapt.trainable": ("^classifier/",), "train.epochs": 1})
    first, last = before_and_after(config, tmp_path / "run")
    pairs = {path for path in first if path.startswith(f"params/{KEY}/")}
    assert len(pairs) == 2 * 4 and changed(first, last) == pairs | {
        "params/classifier/kernel",
        "params/classifier/bias",
    }

    run, images = RunFolder(tmp_path / "run"), DATA.test.images
    logits = Predictor(run).logits(images)
    merged = pretrained.read(run.path, model="resnet20")
    assert not any(KEY in path for path in merged)
    plain = small_config()
    model, transform = setup.build_model(plain, num_classes=3)
    expected = Initializer(model, jax.eval_shape(transform, images[:1]), seed=0).shapes
    variables = pretrained.fit(merged, model="resnet20", expected=expected)
    np.testing.assert_allclose(model.apply(variables, transform(images)), logits, atol=1e-5)


def test_what_is_partly_frozen_resumes_to_the_same_bits(tmp_path):
    options = {
        "adapt.trainable": ("^classifier/",),
        "adapt.lora.targets": ("layer2_0/conv1",),
        "train.ema_decay": 0.9,
    }
    whole = train(small_config(**options), tmp_path / "whole")
    train(small_config(**options, **{"train.epochs": 1}), tmp_path / "resumed")
    resumed = train(small_config(**options), tmp_path / "resumed")
    hashes = [
        RunFolder(run.path / CHECKPOINTS / "6").read_json("progress/metadata")["hashes"]
        for run in (whole, resumed)
    ]
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize("option", ["trainable", "lora.targets"])
def test_patterns_that_are_found_nowhere_are_refused_with_near_paths(option):
    with pytest.raises(
        ConfigError, match=rf"adapt.{option}: 'layer3_0/conv1' .*layer2_0/conv1/kernel"
    ):
        setup.build(small_config(**{f"adapt.{option}": ("layer3_0/conv1",)}), DATA)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"adapt.trainable": ("(",)}, "give a regular expression; this is not one"),
        ({"adapt.frozen_statistics": "keep", "adapt.trainable": ("classifier",)}, "stored, update"),
        ({"adapt.lora.targets": ("conv",), "adapt.lora.rank": 0}, "rank is 0"),
    ],
)
def test_what_cannot_be(options, said):
    with pytest.raises(ConfigError, match=said):
        setup.build(small_config(**options), DATA)


@pytest.mark.parametrize(("names", "kept"), [(("a", "b", "c"), True), (("x", "y", "z"), False)])
def test_a_run_hands_on_its_classifier_for_the_same_classes_alone(tmp_path, names, kept):
    config = small_config(**{"train.epochs": 1})
    source = train(config, tmp_path / "run")
    config.model.pretrained = str(source.path)
    state = setup.build(config, DATA)[0].drawn_state()
    variables = {"params": state.params, **state.model_state}
    given = trees.flatten(pretrained.initialize(config, variables, class_names=names))
    theirs = pretrained.read(source.path, model="resnet20")
    taken = {path for path in given if np.array_equal(given[path], theirs[path])}
    classifier = {"params/classifier/kernel", "params/classifier/bias"}
    assert taken == set(theirs) - (set() if kept else classifier)


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_cached_features_give_the_same_losses(tmp_path, average):
    options = {"adapt.trainable": ("^classifier/",), "train.ema_decay": average}
    plain = train(small_config(**options), tmp_path / "plain")
    cached = train(small_config(**options, **{"adapt.feature_bytes": 10**6}), tmp_path / "cached")
    for one, other in zip(without_times(plain.history), without_times(cached.history), strict=True):
        assert one == pytest.approx(other, rel=1e-5)
    images = DATA.test.images
    np.testing.assert_allclose(
        Predictor(plain).logits(images), Predictor(cached).logits(images), atol=1e-4
    )


@pytest.mark.parametrize(
    ("options", "cached"),
    [
        ({}, True),
        ({"data.transform": "normalize(cifar10)"}, True),
        ({"data.transform": "flip"}, False),  # what is random differs in every epoch
        ({"train.tta": "flip"}, False),
        ({"adapt.trainable": ("classifier", "layer2_0/bn2")}, False),
        ({"adapt.frozen_statistics": "update"}, False),
        ({"adapt.lora.targets": ("layer1_0/conv1",)}, False),
        ({"adapt.feature_bytes": 60 * 16 * 4 - 1}, False),  # bytes of 60 vectors of 16
        ({"adapt.feature_bytes": 60 * 16 * 4}, True),
    ],
)
def test_features_are_cached_exactly_where_they_stay_the_same(options, cached):
    config = small_config(
        **{"adapt.trainable": ("^classifier/",), "adapt.feature_bytes": 10**6, **options}
    )
    assert (setup.build(config, DATA)[0].embed is not None) == cached


def test_nothing_is_computed_backwards_below_what_trains():
    """FLOPs of a step as XLA counts them: two products a layer forwards, four more where it trains."""

    def flops(*patterns):
        config = small_config(**{"adapt.trainable": patterns})
        built = setup.build(config, DATA)[0]
        state = parallel.replicate(built.drawn_state())
        indices = parallel.split_batches(np.zeros((1, 16), np.int32), 1)
        return built.train.flops(state, inputs.place(DATA.train), indices)

    everything, last_stage, head = flops(), flops("^layer2_0", "^classifier"), flops("^classifier")
    assert head < 0.4 * everything and head < last_stage < 0.8 * everything


def test_the_optimizer_keeps_nothing_of_what_is_frozen():
    config = small_config(**{"adapt.trainable": ("^classifier/",)})
    state = setup.build(config, DATA)[0].drawn_state()
    # The last is the count of steps that the learning rate has.
    assert trees.count(jax.tree.leaves(state.opt_state)) == 16 * 3 + 3 + 1
