import numpy as np
import pytest

from imgcls_jax.data.splits import long_tailed, stratified_fold, stratified_split
from imgcls_jax.errors import ConfigError

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(4), [50, 30, 15, 5]))


@pytest.mark.parametrize(
    "size, count", [(0.1, 10), (0.25, 25), (33, 33), (33.0, 33), (1, 1), (96, 96)]
)
def test_parts_are_disjoint_complete_sorted_and_of_the_exact_size(size, count):
    rest, part = stratified_split(LABELS, size, 0)
    assert len(part) == count
    assert np.array_equal(np.sort(np.concatenate([rest, part])), np.arange(100))
    assert np.all(np.diff(rest) > 0) and np.all(np.diff(part) > 0)


@pytest.mark.parametrize(
    "size, expected",
    [(20, [10, 6, 3, 1]), (0.1, [5, 3, 2, 0]), (7, [4, 2, 1, 0]), (96, [49, 29, 14, 4])],
)
def test_classes_keep_their_shares_by_largest_remainder(size, expected):
    _, part = stratified_split(LABELS, size, 0)
    assert np.bincount(LABELS[part], minlength=4).tolist() == expected


def test_every_class_keeps_an_example():
    labels = np.array([0] * 20 + [1, 2, 3])
    for size in range(1, 20):
        rest, part = stratified_split(labels, size, 0)
        assert len(part) == size and set(labels[rest]) == {0, 1, 2, 3}


def test_the_seed_decides():
    _, part = stratified_split(LABELS, 20, 3)
    _, same_seed = stratified_split(LABELS, 20, 3)
    _, other_seed = stratified_split(LABELS, 20, 4)
    assert np.array_equal(part, same_seed)
    assert not np.array_equal(part, other_seed)


def test_every_example_can_be_held_out():
    held_out = {int(i) for seed in range(60) for i in stratified_split(LABELS, 20, seed)[1]}
    assert held_out == set(range(100))


@pytest.mark.parametrize(
    "size, message",
    [
        (0, "0 of 100 examples.*picks the checkpoint"),
        (-0.1, "0 of 100 examples"),
        (0.001, "0 of 100 examples"),
        (100, "100 of 100 examples; at most 96"),
        (60000, "60000 of 100 examples; at most 96"),
        (60000, "larger data: --config.data.validation_size=0.1 takes a tenth"),
        (0.99, "99 of 100 examples; at most 96"),
        (1.5, "whole number"),
    ],
)
def test_sizes_that_cannot_be_had_are_refused(size, message):
    with pytest.raises(ConfigError, match=f"config.data.validation_size is {size:g}.*{message}"):
        stratified_split(LABELS, size, 0)


def test_the_option_is_named():
    with pytest.raises(ConfigError, match="config.data.test_size is 0"):
        stratified_split(LABELS, 0, 0, option="data.test_size")
    with pytest.raises(ConfigError, match="split_seed is -1"):
        stratified_split(LABELS, 5, -1)


def test_each_example_is_in_one_of_the_folds_which_keep_the_shares_of_the_classes():
    parts = []
    for fold in range(4):
        rest, part = stratified_fold(LABELS, fold=fold, folds=4, seed=3)
        np.testing.assert_array_equal(np.sort(np.concatenate([rest, part])), np.arange(100))
        assert np.all(np.diff(rest) > 0) and len(part) == 25
        counts = np.bincount(LABELS[part], minlength=4)
        assert np.all(np.abs(counts - [12.5, 7.5, 3.75, 1.25]) < 1)
        parts.append(part)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(100))
    _, same = stratified_fold(LABELS, fold=0, folds=4, seed=3)
    _, other = stratified_fold(LABELS, fold=0, folds=4, seed=4)
    assert np.array_equal(parts[0], same) and not np.array_equal(parts[0], other)


def test_more_folds_than_a_class_has_images_are_refused():
    with pytest.raises(ConfigError, match="data.folds is 6, but a class has only 5 training"):
        stratified_fold(LABELS, fold=0, folds=6, seed=0)


# Cui et al. (2019): long-tailed CIFAR-10 has 20,431 images at ratio 10, and 12,406 at 100.
@pytest.mark.parametrize("ratio, total, smallest", [(10, 20_431, 500), (100, 12_406, 50)])
def test_the_long_tail_has_the_numbers_of_the_paper(ratio, total, smallest):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 5000))
    kept = long_tailed(labels, ratio, 0)
    counts = np.bincount(labels[kept])
    assert len(np.unique(kept)) == len(kept) == total
    assert counts[0] == 5000 and counts[9] == smallest and (np.diff(counts) < 0).all()
    assert np.array_equal(kept, long_tailed(labels, ratio, 0))
    assert not np.array_equal(kept, long_tailed(labels, ratio, 1))


def test_every_class_keeps_an_example_of_the_longest_tail():
    labels = np.repeat([0, 1, 4], [4, 2, 3])
    assert np.bincount(labels[long_tailed(labels, 1000, 0)]).tolist() == [2, 1, 0, 0, 1]
    assert len(long_tailed(np.zeros(5, int), 10, 0)) == 5  # one class has no tail
