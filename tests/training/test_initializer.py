"""What is drawn of a model's weights: all, or what others lack."""

import jax
import numpy as np
import pytest
from residual import DATA, changed, small_config, train

from imgcls_jax import trees
from imgcls_jax.training import setup
from imgcls_jax.training.initializer import Initializer
from imgcls_jax.training.optimizers import OPTIMIZERS


def initializer(seed=0):
    model, transform = setup.build_model(small_config(), num_classes=3)
    return Initializer(model, jax.eval_shape(transform, DATA.train.images[:1]), seed=seed)


def test_what_is_missing_is_drawn_as_if_all_were():
    shapes, expected = initializer().shapes, trees.flatten(initializer().variables)
    given = jax.tree.map(lambda leaf: np.full(leaf.shape, 3, leaf.dtype), shapes)
    given["params"]["classifier"] = shapes["params"]["classifier"]
    filled = trees.flatten(initializer().fill(given))
    assert list(filled) == list(expected)
    for path, leaf in filled.items():
        is_missing = path.startswith("params/classifier/")
        np.testing.assert_array_equal(leaf, expected[path] if is_missing else 3)


def test_another_seed_draws_others():
    one, other = (initializer(seed).variables["params"]["conv1"]["kernel"] for seed in (0, 1))
    assert np.any(one != other)


def test_nothing_is_drawn_where_all_is_there():
    given = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), initializer().shapes)
    assert initializer().fill(given) is given


def test_a_run_that_goes_on_draws_nothing(tmp_path, monkeypatch):
    train(small_config(**{"train.epochs": 1}), tmp_path / "run")
    monkeypatch.setattr(Initializer, "fill", lambda *_: pytest.fail("weights were drawn"))
    assert len(train(small_config(**{"train.epochs": 2}), tmp_path / "run").history) == 2


def test_beside_pretrained_weights_a_new_classifier_is_the_one_that_would_be_drawn(tmp_path):
    source = train(small_config(**{"train.epochs": 1}), tmp_path / "run")
    config = small_config(**{"model.pretrained": str(source.path)})
    drawn = setup.build(config, DATA)[0].drawn_state()
    first = setup.build(config, DATA)[0].first_state(config, ["x", "y", "z"])
    different = changed(trees.flatten(drawn.params), trees.flatten(first.params))
    assert different == {path for path in trees.flatten(drawn.params) if "classifier" not in path}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_checkpoint_is_expected_to_have_the_shapes_of_the_first_state(name):
    config = small_config(
        **{"optimizer.name": name, "optimizer.momentum": 0.0, "train.ema_decay": 0.9}
    )
    if name == "schedule_free_adamw":  # an average of its own
        config.train.ema_decay = 0.0
    (built,) = setup.build(config, DATA)
    state = built.drawn_state()
    assert jax.tree.structure(state) == jax.tree.structure(built.shapes)
    leaves = zip(jax.tree.leaves(state), jax.tree.leaves(built.shapes), strict=True)
    assert all((leaf.shape, leaf.dtype) == (shape.shape, shape.dtype) for leaf, shape in leaves)
