"""Paired comparisons against SciPy's and against resampling by hand."""

import numpy as np
import pytest
from scipy import stats

from imgcls_jax.evaluation import paired


def answers(only_first: int, only_second: int, both: int, neither: int):
    first = np.repeat([True, False, True, False], [only_first, only_second, both, neither])
    second = np.repeat([False, True, True, False], [only_first, only_second, both, neither])
    return first, second


@pytest.mark.parametrize("only_first, only_second", [(3, 11), (40, 20), (0, 6), (9, 9)])
def test_p_is_that_of_the_binomial_test(only_first, only_second):
    found = paired.compare(*answers(only_first, only_second, 50, 10))
    total = only_first + only_second
    k = min(only_first, only_second)
    assert found["p"] == pytest.approx(min(2 * stats.binom.cdf(k, total, 0.5), 1))
    assert (found["only_first"], found["only_second"]) == (only_first, only_second)
    assert found["difference"] == pytest.approx((only_first - only_second) / (60 + total))


def test_the_interval_is_that_of_drawing_the_examples_anew():
    first, second = answers(60, 30, 300, 110)
    found = paired.compare(first, second)
    random, change = np.random.default_rng(1), first.astype(float) - second
    drawn = [change[random.integers(len(change), size=len(change))].mean() for _ in range(4_000)]
    assert (found["low"], found["high"]) == pytest.approx(
        np.percentile(drawn, [2.5, 97.5]), abs=0.004
    )
    by_scipy = stats.bootstrap(
        (change,), np.mean, n_resamples=2_000, method="percentile", rng=0
    ).confidence_interval
    assert (found["low"], found["high"]) == pytest.approx((by_scipy.low, by_scipy.high), abs=0.004)


def test_several_seeds_widen_the_interval_by_what_they_differ():
    """Against a bootstrap by hand, which draws images and runs."""
    random = np.random.default_rng(0)
    hard = random.random(400)
    first = np.stack([hard < share + 0.1 * random.random(400) for share in (0.70, 0.72, 0.80)])
    second = np.stack([hard < share + 0.1 * random.random(400) for share in (0.66, 0.69)])
    found = paired.compare(first, second)
    drawn = []
    for _ in range(3_000):
        images = random.integers(400, size=400)
        one, other = (
            each[random.integers(len(each), size=len(each))][:, images].mean()
            for each in (first, second)
        )
        drawn.append(one - other)
    assert found["difference"] == pytest.approx(first.mean() - second.mean())
    assert (found["low"], found["high"]) == pytest.approx(
        np.percentile(drawn, [2.5, 97.5]), abs=0.006
    )
    assert found["p"] == pytest.approx(2 * np.mean(np.array(drawn) <= 0), abs=0.02)
    pairs = [(a & ~b).sum() for a in first for b in second]
    assert found["only_first"] == pytest.approx(np.mean(pairs))


def test_equal_answers_show_no_difference():
    found = paired.compare(*answers(0, 0, 7, 3))
    assert found["p"] == 1 and found["difference"] == found["low"] == found["high"] == 0
    assert (
        paired.sentence("a", "b", found)
        == "Between a and b no difference is shown: 0.00 points, p = 1."
    )


def test_the_sentence_names_the_better():
    better = paired.compare(*answers(60, 10, 20, 10))
    assert (
        paired.sentence("a", "b", better)
        == "Between a and b, a is better: by 50.00 points, p < .001."
    )
    worse = paired.compare(*answers(10, 28, 52, 10))
    assert (
        paired.sentence("a", "b", worse)
        == "Between a and b, b is better: by 18.00 points, p = 0.0051."
    )


def test_other_examples_are_refused():
    with pytest.raises(ValueError, match="Not the same examples"):
        paired.compare(np.ones(3, bool), np.ones(4, bool))
