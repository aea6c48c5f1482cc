"""The rows of a comparison: each system's figures, from its finished runs, one run a seed."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from imgcls_jax.config.options import NOT_IDENTITY, differing, flat_options
from imgcls_jax.errors import RunError
from imgcls_jax.evaluation.cost import Cost
from imgcls_jax.evaluation.scores import train_test_gap
from imgcls_jax.run.folder import RunFolder

REPORTED = ("accuracy", "loss", "gap", "epochs", "seconds_per_epoch")
FREE = ("name", "seed", *NOT_IDENTITY)  # options that may differ between the runs of one row
CONFIDENCE = 0.95  # of the intervals

Meter = Callable[[RunFolder], Cost]


class Group(NamedTuple):
    """A system to compare: its runs, and what a report says of it.

    reported: any of the keys REPORTED; accuracy in percent, gap in percentage points.
    """

    label: str
    reported: Mapping[str, float]
    runs: Sequence[RunFolder]


@dataclasses.dataclass(frozen=True)
class Row:
    """Figures of one system: means over its seeds, and what a report says of it.

    accuracy: of the test set, in percent. accuracy_margin: half the 95 % interval of its mean; None
    for a single seed. loss: of the test set. gap: training less test accuracy, in percentage points;
    None if it is unknown. trainable: parameters that train in the last phase. epochs: how many ran.
    peak_memory: bytes, the largest of the runs; None for runs of versions that did not measure it.
    device: of training. multiply_adds, latency in seconds: of one image. images_per_second: in
    batches. These three are None if nobody measured them. reported: as of Group.
    """

    label: str
    seeds: int
    accuracy: float
    accuracy_margin: float | None
    loss: float
    gap: float | None
    parameters: int
    trainable: int
    seconds_per_epoch: float
    epochs: float
    train_seconds: float
    peak_memory: float | None
    device: str
    multiply_adds: int | None
    latency: float | None
    images_per_second: float | None
    reported: Mapping[str, float]

    @property
    def accuracy_text(self) -> str:
        """`99.07 ± 0.39`, in percent."""
        if self.accuracy_margin is None:
            return f"{self.accuracy:.2f}"
        return f"{self.accuracy:.2f} ± {self.accuracy_margin:.2f}"


def summarize(groups: Sequence[Group], meter: Meter | None = None) -> list[Row]:
    """Returns a row for each group, whose runs differ in their seed alone.

    meter: measures what a run's model costs to use (evaluation/cost.py). Without it these figures
    are None.

    Raises RunError for a group without runs, an unfinished run, a seed that occurs twice, or runs of
    several configurations. Raises ValueError for reported figures that are not among REPORTED.
    """
    return [_row(group, meter) for group in groups]


def margin(values: Sequence[float]) -> float | None:
    """Half the Student t interval of the values' mean; None for fewer than two values."""
    from scipy import stats

    n = len(values)
    if n < 2:
        return None
    mean = _mean(values)
    variance = sum((value - mean) ** 2 for value in values) / (n - 1)
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1))
    return quantile * math.sqrt(variance) / math.sqrt(n)


def _row(group: Group, meter: Meter | None) -> Row:
    label, reported, runs = group
    _check(group)
    tests = [run.test for run in runs]
    first = tests[0]
    accuracies = [100 * test["accuracy"] for test in tests]
    gaps = [train_test_gap(run.history, run.test) for run in runs]
    memory = [test.get("peak_memory") for test in tests]
    devices = [str(run.environment.get("device", "")) for run in runs]
    cost = Cost(multiply_adds=None, latency=None, images_per_second=None)
    if meter is not None:
        cost = meter(runs[0])
    return Row(
        label=label,
        seeds=len(runs),
        accuracy=_mean(accuracies),
        accuracy_margin=margin(accuracies),
        loss=_mean([test["loss"] for test in tests]),
        gap=None if None in gaps else _mean(gaps),
        parameters=first["parameters"],
        trainable=first.get("trainable", first["parameters"]),
        seconds_per_epoch=_mean([test["seconds_per_epoch"] for test in tests]),
        epochs=_mean([test["epochs"] for test in tests]),
        train_seconds=_mean([test["train_seconds"] for test in tests]),
        peak_memory=None if None in memory else max(memory),
        device=", ".join(dict.fromkeys(devices)),
        multiply_adds=cost.multiply_adds,
        latency=cost.latency,
        images_per_second=cost.images_per_second,
        reported=dict(reported),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _check(group: Group) -> None:
    """Raises an error unless the group's figures and runs are as `summarize` demands."""
    label, reported, runs = group
    if not runs:
        raise RunError(f"Row {label!r} has no run to summarize.")
    unknown = sorted(set(reported) - set(REPORTED))
    if unknown:
        raise ValueError(f"Row {label!r} reports {unknown}; accepted are {', '.join(REPORTED)}.")
    runs_by_seed: dict[int, RunFolder] = {}
    for run in runs:
        _check_alike(label, runs[0], run)
        seed = run.config.seed
        if seed in runs_by_seed:
            raise RunError(
                f"Row {label!r} has seed {seed} twice: {runs_by_seed[seed].path} and {run.path}. "
                "An interval over seeds needs runs of different seeds."
            )
        runs_by_seed[seed] = run


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
