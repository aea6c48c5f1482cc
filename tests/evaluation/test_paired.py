"""Paired comparisons against SciPy's and against resampling by hand."""

import numpy as np
import pytest
from scipy import stats

from imgcls_jax.evaluation import paired


def answers(only_first: int, only_second: int, both: int, neither: int):
    counts = [only_first, only_second, both, neither]
    first = np.repeat([True, False, True, False], counts)
    second = np.repeat([False, True, True, False], counts)
    return first, second


@pytest.mark.parametrize("only_first, only_second", [(3, 11), (40, 20), (0, 6), (9, 9)])
def test_p_is_that_of_the_binomial_test(only_first, only_second):
    result = paired.compare(*answers(only_first, only_second, 50, 10))
    total = only_first + only_second
    k = min(only_first, only_second)
    assert result["p"] == pytest.approx(min(2 * stats.binom.cdf(k, total, 0.5), 1))
    assert result["only_first"] == only_first
    assert result["only_second"] == only_second
    assert result["difference"] == pytest.approx((only_first - only_second) / (60 + total))


def test_the_interval_is_that_of_resampling_the_examples():
    first, second = answers(60, 30, 300, 110)
    result = paired.compare(first, second)
    interval = result["low"], result["high"]
    rng = np.random.default_rng(1)
    change = first.astype(float) - second
    count = len(change)
    resampled = [change[rng.integers(count, size=count)].mean() for _ in range(4_000)]
    assert interval == pytest.approx(np.percentile(resampled, [2.5, 97.5]), abs=0.004)
    bootstrap = stats.bootstrap((change,), np.mean, n_resamples=2_000, method="percentile", rng=0)
    scipy_interval = bootstrap.confidence_interval
    assert interval == pytest.approx((scipy_interval.low, scipy_interval.high), abs=0.004)


def test_several_seeds_widen_the_interval_by_their_differences():
    """Against a bootstrap by hand, which draws images and runs."""
    rng = np.random.default_rng(0)
    hardness = rng.random(400)
    first = np.stack([hardness < share + 0.1 * rng.random(400) for share in (0.70, 0.72, 0.80)])
    second = np.stack([hardness < share + 0.1 * rng.random(400) for share in (0.66, 0.68, 0.69)])
    result = paired.compare(first, second)
    differences = []
    for _ in range(3_000):
        images = rng.integers(400, size=400)
        means = []
        for runs in (first, second):
            drawn_runs = rng.integers(len(runs), size=len(runs))
            means.append(runs[drawn_runs][:, images].mean())
        differences.append(means[0] - means[1])
    low, high = np.percentile(differences, [2.5, 97.5])
    assert result["difference"] == pytest.approx(first.mean() - second.mean())
    assert (result["low"], result["high"]) == pytest.approx((low, high), abs=0.006)
    assert result["p"] == pytest.approx(2 * np.mean(np.array(differences) <= 0), abs=0.02)
    only_first = [(a & ~b).sum() for a in first for b in second]
    assert result["only_first"] == pytest.approx(np.mean(only_first))


def test_equal_answers_show_no_difference():
    result = paired.compare(*answers(0, 0, 7, 3))
    assert result["p"] == 1
    assert result["difference"] == result["low"] == result["high"] == 0
    sentence = paired.sentence("a", "b", result)
    assert sentence == "Between a and b no difference is shown: 0.00 points, p = 1 over images."


def test_the_sentence_names_the_better():
    better = paired.sentence("a", "b", paired.compare(*answers(60, 10, 20, 10)))
    assert better == "Between a and b, a is better: by 50.00 points, p < .001 over images."
    worse = paired.sentence("a", "b", paired.compare(*answers(10, 28, 52, 10)))
    assert worse == "Between a and b, b is better: by 18.00 points, p = 0.0051 over images."


def test_the_sentence_says_over_which_seeds_it_tests():
    one, other = answers(60, 10, 20, 10)
    three = np.stack([one] * 3)
    for first, second, words in (
        (three, np.stack([other] * 3), "images and seeds"),
        (three, other, "images and the seeds of a"),
        (other, three, "images and the seeds of b"),
    ):
        result = paired.compare(first, second)
        seeds = (np.atleast_2d(first).shape[0], np.atleast_2d(second).shape[0])
        sentence = paired.sentence("a", "b", result, seeds=seeds)
        assert sentence.endswith(f"p < .001 over {words}.")


def test_two_seeds_are_too_few_for_a_test():
    """No p value that the wide interval of two seeds contradicts, but what the images say."""
    one, other = answers(60, 10, 20, 10)
    first, second = np.stack([one, one]), np.stack([other, other])
    result = paired.compare(first, second)
    assert result["p"] is None
    images_alone = paired.compare(one, other)
    assert (result["low"], result["high"]) == (images_alone["low"], images_alone["high"])
    sentence = paired.sentence("a", "b", result, seeds=(2, 2))
    assert sentence.startswith("Between a and b no test is made, since two seeds are too few")
    assert "50.00 points with these seeds" in sentence
    assert "the 95 % interval of a less b over images alone is +37.00 to +63.00." in sentence
    assert paired.compare(first, other)["p"] is None


def test_other_examples_are_refused():
    with pytest.raises(ValueError, match="Not the same examples"):
        paired.compare(np.ones(3, bool), np.ones(4, bool))
