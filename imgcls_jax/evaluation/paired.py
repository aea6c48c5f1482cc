"""Paired comparison of two classifiers on the same examples, from which of them each gets right."""

from typing import Any

import numpy as np

RESAMPLES = 10_000  # of the bootstrap
MEAN_RESAMPLES = 1_000  # of the bootstrap of a mean
INTERVAL = (2.5, 97.5)  # percentiles, of a 95 % interval
SIGNIFICANCE_LEVEL = 0.05


def compare(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """Compares two systems by which examples each gets right.

    first, second: bool [N], or [S, N] for runs with S seeds.

    Returns, ready for JSON:
      difference: mean accuracy of the first minus that of the second.
      low, high: its 95 % interval, by the bootstrap over examples and, with several runs, seeds.
      p: two-sided p-value of no difference: McNemar's exact test (1947) for one run each, the same
        bootstrap for several.
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
    differences = _resampled_differences(first, second)
    low, high = np.percentile(differences, INTERVAL)
    if len(first) == len(second) == 1:
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
) -> str:
    """Returns the result of `compare` in words."""
    p = p_value(result["p"])
    if not p.startswith("<"):
        p = f"= {p}"
    points = f"{abs(100 * result['difference']):.2f} points"
    if result["p"] >= SIGNIFICANCE_LEVEL:
        return f"Between {first} and {second} no difference is shown: {points}, p {p}."
    better = second
    if result["difference"] > 0:
        better = first
    return f"Between {first} and {second}, {better} is better: by {points}, p {p}."


def p_value(p: float) -> str:
    """Returns a p-value as text with two significant digits."""
    if p < 0.001:
        return "< .001"
    return f"{p:.2g}"


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


def _resampled_differences(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the difference of the mean accuracies in RESAMPLES bootstrap samples.

    Each sample draws examples and, on both sides, runs, with replacement.
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
        run_weights = rng.multinomial(num_runs, uniform, RESAMPLES) / num_runs
        return (run_weights @ kinds * shares).sum(-1)

    first_accuracies = accuracies(kinds[: len(first)])
    second_accuracies = accuracies(kinds[len(first) :])
    return first_accuracies - second_accuracies
