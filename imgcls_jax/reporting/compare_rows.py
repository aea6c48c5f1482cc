"""The rows of a comparison: each system's figures, from its finished runs, one run a seed."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from imgcls_jax.config.options import NOT_IDENTITY, differing, flat_options
from imgcls_jax.errors import RunError
from imgcls_jax.evaluation.cost import Cost
from imgcls_jax.evaluation.scores import train_test_gap
from imgcls_jax.run.ensemble_folder import EnsembleFolder
from imgcls_jax.run.folder import RunFolder

REPORTED = ("accuracy", "loss", "gap", "epochs", "seconds_per_epoch")
FREE = (
    "name",
    "seed",
    "data.fold",
    *NOT_IDENTITY,
)  # options that may differ between the runs of one row
CONFIDENCE = 0.95  # of the intervals

Meter = Callable[[RunFolder], Cost]


class Group(NamedTuple):
    """A system to compare: its runs or the one ensemble, and what a report says of it.

    reported: any of the keys REPORTED; accuracy in percent, gap in percentage points.
    """

    label: str
    reported: Mapping[str, float]
    runs: Sequence[RunFolder]

    @property
    def is_ensemble(self) -> bool:
        """Whether nothing is known of its training, nor of its cost."""
        return isinstance(self.runs[0], EnsembleFolder)


@dataclasses.dataclass(frozen=True)
class Row:
    """Figures of one system: means over its seeds (and folds), and what a report says of it.

    accuracy: of the test set, in percent. accuracy_low, accuracy_high: the 95 % interval of its mean
    over the seeds or, with folds, over the folds; None for a single one.
    balanced_accuracy, macro_f1: means over the classes, in percent. loss: of the test set.
    gap: training less test accuracy, in percentage points; None if it is unknown. trainable:
    parameters that train in the last phase. epochs: how many ran. peak_memory: bytes, the largest of
    the runs; None for runs of versions that did not measure it. device: of training. multiply_adds,
    latency in seconds: of one image. images_per_second: in batches. These three are None if nobody
    measured them. reported: as of Group. Figures of the training of an ensemble are None, its
    parameters those of all members that vote.
    """

    label: str
    seeds: int
    accuracy: float
    accuracy_low: float | None
    accuracy_high: float | None
    balanced_accuracy: float
    macro_f1: float
    loss: float
    gap: float | None
    parameters: int
    trainable: int | None
    seconds_per_epoch: float | None
    epochs: float | None
    train_seconds: float | None
    peak_memory: float | None
    device: str
    multiply_adds: int | None
    latency: float | None
    images_per_second: float | None
    reported: Mapping[str, float]

    @property
    def accuracy_text(self) -> str:
        """`99.07 (98.58–99.39)`: the mean and its interval, in percent."""
        if self.accuracy_low is None:
            return f"{self.accuracy:.2f}"
        return f"{self.accuracy:.2f} ({self.accuracy_low:.2f}–{self.accuracy_high:.2f})"

    @property
    def accuracy_errors(self) -> list[list[float]] | None:
        """The interval's distances [[below], [above]] from the mean, as matplotlib takes them."""
        if self.accuracy_low is None or self.accuracy_high is None:
            return None
        return [[self.accuracy - self.accuracy_low], [self.accuracy_high - self.accuracy]]


def summarize(groups: Sequence[Group], meter: Meter | None = None) -> list[Row]:
    """Returns a row for each group, whose runs differ in their seed alone.

    meter: measures what a run's model costs to use (evaluation/cost.py). Without it these figures
    are None.

    Raises RunError for a group without runs, an unfinished run, a seed that occurs twice, or runs of
    several configurations. Raises ValueError for reported figures that are not among REPORTED.
    """
    return [_row(group, meter) for group in groups]


def interval(accuracies: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of the mean of accuracies from 0 to 1; None for fewer than two.

    It is Student's t interval on the logit of the mean, whose standard error is that of the mean
    divided by mean * (1 - mean) (the delta method). So it ends within 0 and 1, and of accuracies
    that vary little it is the usual mean ± half width.
    """
    from scipy import stats

    n = len(accuracies)
    if n < 2:
        return None
    mean = _mean(accuracies)
    variance = sum((accuracy - mean) ** 2 for accuracy in accuracies) / (n - 1)
    if variance == 0 or not 0 < mean < 1:  # no logit of accuracies that a damaged file has
        return mean, mean
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1))
    half_width = quantile * math.sqrt(variance) / math.sqrt(n)
    logit = math.log(mean / (1 - mean))
    logit_half_width = half_width / (mean * (1 - mean))
    return _sigmoid(logit - logit_half_width), _sigmoid(logit + logit_half_width)


def _sigmoid(logit: float) -> float:
    return 0.5 * (1 + math.tanh(logit / 2))  # math.exp would overflow


def _row(group: Group, meter: Meter | None) -> Row:
    label, reported, runs = group
    _check(group)
    tests = [run.test for run in runs]
    first = tests[0]
    accuracies = [test["accuracy"] for test in tests]
    low = high = None
    accuracy_interval = None
    if len(runs) > 1:
        accuracy_interval = interval(_independent(runs, accuracies))
    if accuracy_interval is not None:
        low, high = (100 * end for end in accuracy_interval)
    trainable = first["parameters"]
    if group.is_ensemble:
        trainable = None
    gaps = [train_test_gap(run.history, test) for run, test in zip(runs, tests, strict=True)]
    memory = [test.get("peak_memory") for test in tests]
    devices = [str(run.environment.get("device", "")) for run in runs]
    cost = Cost(multiply_adds=None, latency=None, images_per_second=None)
    if meter is not None and not group.is_ensemble:
        cost = meter(runs[0])
    return Row(
        label=label,
        seeds=len(runs),
        accuracy=_mean([100 * accuracy for accuracy in accuracies]),
        accuracy_low=low,
        accuracy_high=high,
        balanced_accuracy=_mean([100 * test["macro"]["recall"] for test in tests]),
        macro_f1=_mean([100 * test["macro"]["f1"] for test in tests]),
        loss=_mean([test["loss"] for test in tests]),
        gap=_known_mean(gaps),
        parameters=first["parameters"],
        trainable=first.get("trainable", trainable),
        seconds_per_epoch=_known_mean([test.get("seconds_per_epoch") for test in tests]),
        epochs=_known_mean([test.get("epochs") for test in tests]),
        train_seconds=_known_mean([test.get("train_seconds") for test in tests]),
        peak_memory=None if None in memory else max(memory),
        device=", ".join(dict.fromkeys(devices)),
        multiply_adds=cost.multiply_adds,
        latency=cost.latency,
        images_per_second=cost.images_per_second,
        reported=dict(reported),
    )


def _independent(runs: Sequence[RunFolder], accuracies: Sequence[float]) -> list[float]:
    """Returns the accuracies that an interval counts: of each run or, with folds, of each fold.

    Seeds of one fold have the same test images, so that only their mean counts.
    """
    if not runs[0].config.data.folds:
        return list(accuracies)
    by_fold: dict[int, list[float]] = {}
    for run, accuracy in zip(runs, accuracies, strict=True):
        by_fold.setdefault(run.config.data.fold, []).append(accuracy)
    return [_mean(values) for values in by_fold.values()]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _known_mean(values: Sequence[float | None]) -> float | None:
    """The mean; None if one of the values is not known."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    return _mean(known)


def _check(group: Group) -> None:
    """Raises an error unless the group's figures and runs are as `summarize` demands."""
    label, reported, runs = group
    if not runs:
        raise RunError(f"Row {label!r} has no run to summarize.")
    unknown = sorted(set(reported) - set(REPORTED))
    if unknown:
        raise ValueError(f"Row {label!r} reports {unknown}; accepted are {', '.join(REPORTED)}.")
    if len(runs) == 1:
        return
    runs_by_seed: dict[tuple[int, int], RunFolder] = {}
    for run in runs:
        _check_alike(label, runs[0], run)
        seed = run.config.seed
        repetition = (seed, run.config.data.fold)
        if repetition in runs_by_seed:
            raise RunError(
                f"Row {label!r} has seed {seed} twice: {runs_by_seed[repetition].path} and "
                f"{run.path}. An interval over seeds needs runs of different seeds."
            )
        runs_by_seed[repetition] = run


def _check_alike(label: str, first: RunFolder, other: RunFolder) -> None:
    """Raises RunError if the configs of two runs differ in more than the options FREE."""
    first_options = flat_options(first.config)
    options = flat_options(other.config)
    differences = []
    for key in differing(first_options, options, ignored=FREE):
        differences.append(f"{key} ({first_options.get(key)!r} and {options.get(key)!r})")
    if differences:
        raise RunError(
            f"The runs of row {label!r} may differ in their seed alone, but {first.path} and "
            f"{other.path} differ in {', '.join(differences)}."
        )
