"""Paired comparison of two classifiers on the same examples, from which of them each gets right."""

from typing import Any

import numpy as np

RESAMPLES = 10_000  # of the bootstrap
MEAN_RESAMPLES = 1_000  # of the bootstrap of a mean
INTERVAL = (2.5, 97.5)  # percentiles, of a 95 % interval
SIGNIFICANCE_LEVEL = 0.05
FEWEST_SEEDS = 3  # of a system, for a bootstrap over them: two hardly tell how much seeds vary


def compare(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """Compares two systems by which examples each gets right.

    first, second: bool [N], or [S, N] for runs with S seeds.

    Returns, ready for JSON:
      difference: mean accuracy of the first minus that of the second.
      low, high: its 95 % interval, by the bootstrap over examples and, with several runs, seeds;
        over examples alone if a system has two runs.
      p: two-sided p-value of no difference: McNemar's exact test (1947) for one run each, the same
        bootstrap for several. None if a system has two runs.
      only_first, only_second: number of examples that only one of the two gets right, the mean
        over all pairs of runs.

    Raises ValueError if the numbers of examples differ or are 0.
    """
    first = np.atleast_2d(np.asarray(first, bool))
    second = np.atleast_2d(np.asarray(second, bool))
    same_examples = first.shape[1:] == second.shape[1:]
    if not same_examples or first.size == 0:
        raise ValueError(f"Not the same examples: {first.shape} and {second.shape}.")
    pairs_first = first[:, None]  # [S, 1, N], so that it broadcasts to all pairs of runs
    only_first = (pairs_first & ~second).sum(-1)
    only_second = (~pairs_first & second).sum(-1)
    has_two_seeds = _has_two_seeds(len(first), len(second))
    differences = _resampled_differences(first, second, over_seeds=not has_two_seeds)
    low, high = np.percentile(differences, INTERVAL)
    p: float | None
    if has_two_seeds:
        p = None
    elif len(first) == len(second) == 1:
        p = _mcnemar(only_first.item(), only_second.item())
    else:
        p = _bootstrap_p(differences)
    return {
        "difference": float(first.mean() - second.mean()),
        "low": float(low),
        "high": float(high),
        "only_first": float(only_first.mean()),
        "only_second": float(only_second.mean()),
        "p": p,
    }


def mean_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Returns the mean of values [N] and its 95 % interval (low, high), by the bootstrap."""
    values = np.asarray(values, np.float64)
    rng = np.random.default_rng(0)
    means = np.empty(MEAN_RESAMPLES)
    for i in range(MEAN_RESAMPLES):
        sample = rng.integers(len(values), size=len(values))
        means[i] = values[sample].mean()
    low, high = np.percentile(means, INTERVAL)
    mean = float(values.mean())
    return mean, float(low), float(high)


def sentence(
    first: str,
    second: str,
    result: dict[str, Any],
    *,
    seeds: tuple[int, int] = (1, 1),
) -> str:
    """Returns the result of `compare` in words, with the variation that it counts.

    seeds: how many runs the first and the second system have.
    """
    pair = f"Between {first} and {second}"
    points = f"{abs(100 * result['difference']):.2f} points"
    better = second
    if result["difference"] > 0:
        better = first
    if result["p"] is None:
        ends = f"{100 * result['low']:+.2f} to {100 * result['high']:+.2f}"
        return (
            f"{pair} no test is made, since two seeds are too few for one: {points} with these "
            f"seeds; the 95 % interval of {first} less {second} over images alone is {ends}."
        )
    p = p_value(result["p"])
    if not p.startswith("<"):
        p = f"= {p}"
    counted = f"p {p} over {_counted(first, second, seeds)}"
    if result["p"] >= SIGNIFICANCE_LEVEL:
        return f"{pair} no difference is shown: {points}, {counted}."
    return f"{pair}, {better} is better: by {points}, {counted}."


def _counted(first: str, second: str, seeds: tuple[int, int]) -> str:
    """The variation that a p-value counts, in words."""
    if seeds == (1, 1):
        return "images"
    if seeds[0] == 1:
        return f"images and the seeds of {second}"
    if seeds[1] == 1:
        return f"images and the seeds of {first}"
    return "images and seeds"


def p_value(p: float) -> str:
    """Returns a p-value as text with two significant digits."""
    if p < 0.001:
        return "< .001"
    return f"{p:.2g}"


def _has_two_seeds(*seeds: int) -> bool:
    """Whether a system has more than one run, but too few for a bootstrap over them."""
    return any(1 < count < FEWEST_SEEDS for count in seeds)


def _mcnemar(only_first: int, only_second: int) -> float:
    from scipy import stats

    discordant = only_first + only_second
    if discordant == 0:
        return 1.0
    return float(stats.binomtest(only_first, discordant).pvalue)


def _bootstrap_p(differences: np.ndarray) -> float:
    lower_tail = (differences <= 0).sum()
    upper_tail = (differences >= 0).sum()
    smaller_tail = min(lower_tail, upper_tail)
    p = 2 * (1 + smaller_tail) / (1 + len(differences))
    return float(min(p, 1.0))


def _resampled_differences(
    first: np.ndarray,
    second: np.ndarray,
    *,
    over_seeds: bool,
) -> np.ndarray:
    """Returns the difference of the mean accuracies in RESAMPLES bootstrap samples.

    Each sample draws examples and, on both sides if over_seeds, runs, with replacement.
    """
    rng = np.random.default_rng(0)
    # Examples that the same runs get right are interchangeable, so drawing examples means drawing
    # how many there are of each such kind.
    both = np.concatenate([first, second])
    kinds, counts = np.unique(both, axis=1, return_counts=True)
    num_examples = counts.sum()
    frequencies = counts / num_examples
    shares = rng.multinomial(num_examples, frequencies, RESAMPLES) / num_examples

    def accuracies(kinds: np.ndarray) -> np.ndarray:
        num_runs = len(kinds)
        uniform = np.full(num_runs, 1 / num_runs)
        run_weights = uniform[None]
        if over_seeds:
            run_weights = rng.multinomial(num_runs, uniform, RESAMPLES) / num_runs
        return (run_weights @ kinds * shares).sum(-1)

    first_accuracies = accuracies(kinds[: len(first)])
    second_accuracies = accuracies(kinds[len(first) :])
    return first_accuracies - second_accuracies
