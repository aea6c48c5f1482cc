"""Whether one classifier is better than another on the same examples, from which of them each gets right."""

from typing import Any

import numpy as np

RESAMPLES = 10_000


def compare(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """first, second: bool [N], whether each example is right. Ready for JSON.

    difference: accuracy of the first less that of the second. only_first, only_second: examples that one alone gets
    right. p: two-sided, of McNemar's exact test (1947) that such examples fall to either alike. low, high: the
    difference's 95 % interval, by the bootstrap over examples.
    """
    from scipy import stats

    first, second = np.asarray(first, bool), np.asarray(second, bool)
    if first.shape != second.shape or not len(first):
        raise ValueError(f"Not the same examples: {first.shape} and {second.shape}.")
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    apart = only_first + only_second
    # To draw examples anew is to draw how many of each of three kinds there are.
    shares = np.array([only_first, only_second, len(first) - apart]) / len(first)
    drawn = np.random.default_rng(0).multinomial(len(first), shares, RESAMPLES)
    low, high = np.percentile(drawn[:, 0] - drawn[:, 1], [2.5, 97.5]) / len(first)
    return {
        "difference": (only_first - only_second) / len(first),
        "low": float(low),
        "high": float(high),
        "only_first": only_first,
        "only_second": only_second,
        "p": float(stats.binomtest(only_first, apart).pvalue) if apart else 1.0,
    }


def sentence(first: str, second: str, found: dict[str, Any], *, level: float = 0.05) -> str:
    """What `compare` found, in words."""
    p = p_value(found["p"])
    p = f"p {p}" if p.startswith("<") else f"p = {p}"
    points = f"{abs(100 * found['difference']):.2f} points"
    if found["p"] >= level:
        return f"Between {first} and {second} no difference is shown: {points}, {p}."
    better = first if found["difference"] > 0 else second
    return f"Between {first} and {second}, {better} is better: by {points}, {p}."


def p_value(p: float) -> str:
    return "< .001" if p < 0.001 else f"{p:.2g}"
