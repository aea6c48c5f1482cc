"""The metrics: one table, from which follows what is logged, kept, shown, compared and monitored.

A new metric is a line of METRICS: training steps and validation compute it, metrics.jsonl, the log,
TensorBoard and test.json have it, and `config.train.monitor` may be its name. Training steps leave out
those by class, which are of a whole set.
"""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics
from jax import lax

from imgcls_jax.training import parallel
from imgcls_jax.training.losses import cross_entropy


@dataclasses.dataclass(frozen=True)
class Metric:
    """A figure that is the mean of a value per example: `values(logits [B, K], labels [B]) -> [B]`.

    title: its name for readers. is_share: whether it is from 0 to 1 and shown in percent.
    min_classes: with fewer the metric says nothing. is_by_class: whether it is the mean over the
    classes of the means over their examples, so that each class counts as much as any other.
    """

    values: Callable[[jax.Array, jax.Array], jax.Array]
    title: str
    higher_is_better: bool = True
    is_share: bool = True
    min_classes: int = 2
    is_by_class: bool = False


def correct(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns 1.0 where the label has the largest logit, 0.0 elsewhere: float32 [B]."""
    return (logits.argmax(-1) == labels).astype(jnp.float32)


def among_top_5(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns 1.0 where the label is among the five largest logits, 0.0 elsewhere: float32 [B]."""
    _, top = lax.top_k(logits, 5)
    return (top == labels[:, None]).any(-1).astype(jnp.float32)


METRICS = {
    # While training it is the loss of the objective, with label smoothing, mixing and distillation.
    "loss": Metric(cross_entropy, "loss", higher_is_better=False, is_share=False),
    "accuracy": Metric(correct, "accuracy"),
    "balanced_accuracy": Metric(correct, "balanced accuracy", is_by_class=True),
    "top5": Metric(among_top_5, "top-5 accuracy", min_classes=6),
}


def names(num_classes: int) -> tuple[str, ...]:
    """Returns the metrics that say something about so many classes."""
    return tuple(name for name, metric in METRICS.items() if metric.min_classes <= num_classes)


def of_examples(logits: jax.Array, labels: jax.Array) -> dict[str, jax.Array]:
    """Returns the values [B] of logits [B, K] and labels int [B], of each metric not by class."""
    values = {}
    for name in names(logits.shape[-1]):
        if not METRICS[name].is_by_class:
            values[name] = METRICS[name].values(logits, labels)
    return values


def of_step(values: dict[str, jax.Array]) -> metrics.Collection:
    """Returns a step's metrics, over the batch of all devices, from this device's values [B]."""
    collection = _collection(tuple(values))
    return collection.gather_from_model_output(axis_name=parallel.AXIS, **values)


@functools.cache
def _collection(metric_names: tuple[str, ...]) -> type[metrics.Collection]:
    averages = {name: metrics.Average.from_output(name) for name in metric_names}
    return metrics.Collection.create(**averages)


def totals(stacked: metrics.Collection, count: int) -> dict[str, np.ndarray]:
    """Returns each metric's sum over the batch, float64 [count], of the first steps of a dispatch.

    stacked: the metrics of a dispatch, whose fields have a leading axis of steps.
    """
    averages = parallel.fetch(stacked)
    sums = {}
    for name, average in vars(averages).items():
        if isinstance(average, metrics.Average):
            sums[name] = average.total[:count].astype(np.float64)
    return sums


def to_minimize(name: str, means: dict[str, float]) -> float:
    """Returns a metric as a figure that is the lower the better; NaN if the loss is not finite."""
    if not math.isfinite(means["loss"]):
        return math.nan
    if METRICS[name].higher_is_better:
        return -means[name]
    return means[name]


def with_prefix(prefix: str, means: dict[str, float]) -> dict[str, float]:
    """Returns the metrics under the names that a line of metrics.jsonl has: "train_loss" and so on."""
    return {prefix + name: mean for name, mean in means.items()}


def without_prefix(prefix: str, line: dict[str, float]) -> dict[str, float]:
    """Returns the metrics of a line of metrics.jsonl whose names begin with the prefix."""
    return {name: line[prefix + name] for name in METRICS if prefix + name in line}


def evaluate(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Returns each metric's mean over a whole set: logits float32 [N, K], labels int [N]."""
    means = {}
    for name in names(logits.shape[-1]):
        metric = METRICS[name]
        values = metric.values(jnp.asarray(logits), jnp.asarray(labels))
        values = np.asarray(values, np.float64)
        if metric.is_by_class:
            values = means_by_class(values, labels)
        means[name] = float(values.mean())
    return means


def means_by_class(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the mean of values float64 [N] over the examples of each class that has any."""
    sums = np.bincount(labels, weights=values)
    counts = np.bincount(labels)
    has_examples = counts > 0
    return sums[has_examples] / counts[has_examples]
