"""Split conformal sets: figures by hand, and the coverage that they promise."""

import numpy as np
import pytest
from scipy import stats

from imgcls_jax.errors import RunError
from imgcls_jax.evaluation import conformal
from imgcls_jax.evaluation.scores import softmax


def predictions(count: int, seed: int, *, sharpness: float = 1.0):
    """Probabilities of ten classes, overconfident with a sharpness above 1, and labels."""
    rng = np.random.default_rng(seed)
    logits = 1.5 * rng.normal(size=(count, 10))
    chances = softmax(logits).cumsum(-1)
    labels = (chances < rng.random((count, 1))).sum(-1)
    return softmax(sharpness * logits), np.minimum(labels, 9)


def test_the_mass_above_each_class_by_hand():
    probabilities = np.array([[0.2, 0.5, 0.3], [0.25, 0.25, 0.5], [1, 0, 0]])
    expected = [[0.8, 0, 0.5], [0.5, 0.75, 0], [0, 1, 1]]
    np.testing.assert_allclose(conformal.mass_above(probabilities), expected)


def test_the_quantile_by_hand():
    scores = np.array([5, 1, 4, 2, 3, 9, 8, 7, 6])
    assert conformal.quantile(scores, 0.9) == 9
    assert conformal.quantile(scores, 0.7) == 7  # though 10 * 0.7 is a little above 7
    assert conformal.quantile(scores, 0.01) == 1
    for level, fewest in ((0.5, 1), (0.9, 9), (0.95, 19), (0.99, 99), (0.9999, 9999)):
        assert conformal.fewest_examples(level) == fewest
        assert conformal.quantile(np.arange(fewest), level) == fewest - 1
    with pytest.raises(RunError, match="9 scores have no quantile at 0.91: it takes 11"):
        conformal.quantile(scores, 0.91)


@pytest.mark.parametrize("coverage", [0.7, 0.9, 0.99])
@pytest.mark.parametrize("sharpness", [1.0, 4.0])
def test_sets_cover_as_often_as_asked_also_of_a_model_that_is_overconfident(coverage, sharpness):
    """The number covered of M follows the beta-binomial law of N scores (Vovk, 2012)."""
    probabilities, labels = predictions(1000, 0, sharpness=sharpness)
    most = conformal.fit(probabilities, labels, coverage)
    probabilities, labels = predictions(5000, 1, sharpness=sharpness)
    sets = conformal.sets(probabilities, most)
    covered = sets[np.arange(5000), labels].sum()
    rank = np.ceil(1001 * coverage)
    low, high = stats.betabinom(5000, rank, 1001 - rank).interval(0.99)
    assert low <= covered <= high
    assert sets[np.arange(5000), probabilities.argmax(-1)].all(), "the predicted class is in it"


def test_a_run_that_is_right_more_often_has_sets_of_one_class():
    labels = np.arange(40) % 4
    probabilities = np.full((40, 4), 0.1)
    probabilities[np.arange(40), labels] = 0.7
    most = conformal.fit(probabilities, labels, 0.9)
    assert most == 0
    assert (conformal.sets(probabilities, most).sum(-1) == 1).all()
