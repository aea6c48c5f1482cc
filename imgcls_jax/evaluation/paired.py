"""Whether one classifier is better than another on the same examples, from which of them each gets right."""

from typing import Any

import numpy as np

RESAMPLES = 10_000


def compare(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """Whether two systems differ, from whether each example is right: bool [N], or [S, N] for runs of S seeds.

    Ready for JSON. difference: mean accuracy of the first less that of the second. low, high: its 95 % interval, by the
    bootstrap over examples and, where there are several, seeds. p: two-sided that there is none; for one run each by
    McNemar's exact test (1947), for several by the same bootstrap. only_first, only_second: examples that one run of
    each alone gets right, the mean over all pairs of runs.
    """
    from scipy import stats

    first, second = np.atleast_2d(np.asarray(first, bool)), np.atleast_2d(np.asarray(second, bool))
    if first.shape[1:] != second.shape[1:] or not first.size:
        raise ValueError(f"Not the same examples: {first.shape} and {second.shape}.")
    runs = len(first), len(second)
    only_first = float((first[:, None] & ~second).sum(-1).mean())
    only_second = float((~first[:, None] & second).sum(-1).mean())
    drawn = _resampled(first, second)
    low, high = np.percentile(drawn, [2.5, 97.5])
    if runs == (1, 1):
        apart = only_first + only_second
        p = stats.binomtest(int(only_first), int(apart)).pvalue if apart else 1.0
    else:
        p = min(2 * (1 + min((drawn <= 0).sum(), (drawn >= 0).sum())) / (1 + RESAMPLES), 1.0)
    return {
        "difference": float(first.mean() - second.mean()),
        "low": float(low),
        "high": float(high),
        "only_first": only_first,
        "only_second": only_second,
        "p": float(p),
    }


def _resampled(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The difference of the mean accuracies, of RESAMPLES draws of the examples and of each side's runs [RESAMPLES]."""
    random = np.random.default_rng(0)
    # Examples that the same runs get right are alike: to draw examples is to draw how many of each kind there are.
    kinds, counts = np.unique(np.concatenate([first, second]), axis=1, return_counts=True)
    shares = random.multinomial(counts.sum(), counts / counts.sum(), RESAMPLES) / counts.sum()

    def accuracy(kinds: np.ndarray) -> np.ndarray:
        runs = len(kinds)
        return (
            (random.multinomial(runs, np.full(runs, 1 / runs), RESAMPLES) / runs) @ kinds * shares
        ).sum(-1)

    return accuracy(kinds[: len(first)]) - accuracy(kinds[len(first) :])


def mean_interval(values: np.ndarray) -> tuple[float, float, float]:
    """The mean of values [N], and its 95 % interval, by the bootstrap."""
    values = np.asarray(values, np.float64)
    random = np.random.default_rng(0)
    drawn = np.array(
        [
            values[random.integers(len(values), size=len(values))].mean()
            for _ in range(RESAMPLES // 10)
        ]
    )
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(values.mean()), float(low), float(high)


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
