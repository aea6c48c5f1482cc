"""The table of metrics, against the same figures by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from imgcls_jax.evaluation.scores import score
from imgcls_jax.training import metrics

LOGITS = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, 8, 40)


def test_means_over_examples():
    means = metrics.evaluate(LOGITS, LABELS)
    order = np.argsort(-LOGITS, axis=-1)
    log_p = LOGITS - np.log(np.exp(LOGITS).sum(-1, keepdims=True))
    assert means["accuracy"] == (order[:, 0] == LABELS).mean()
    assert means["top5"] == (order[:, :5] == LABELS[:, None]).any(-1).mean()
    assert means["loss"] == pytest.approx(-log_p[range(40), LABELS].mean(), rel=1e-5)


def test_few_classes_have_no_top_5():
    assert metrics.names(5) == ("loss", "accuracy", "balanced_accuracy")
    assert set(metrics.evaluate(LOGITS[:, :5], LABELS % 5)) == set(metrics.names(5))


def test_what_is_monitored_is_the_lower_the_better():
    means = {"loss": 0.5, "accuracy": 0.9}
    assert metrics.to_minimize("loss", means) == 0.5
    assert metrics.to_minimize("accuracy", means) == -0.9
    assert np.isnan(metrics.to_minimize("accuracy", {"loss": np.inf, "accuracy": 1.0}))


def test_a_new_metric_is_one_line(monkeypatch):
    def confidence(logits, labels):
        return jnp.exp(logits - jnp.log(jnp.exp(logits).sum(-1, keepdims=True))).max(-1)

    monkeypatch.setitem(metrics.METRICS, "confidence", metrics.Metric(confidence, "confidence"))
    means = metrics.evaluate(LOGITS, LABELS)
    p = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
    assert means["confidence"] == pytest.approx(p.max(-1).mean(), rel=1e-5)
    line = metrics.with_prefix("train_", means)
    assert metrics.without_prefix("train_", line) == means


def test_balanced_accuracy_is_the_mean_recall_and_that_of_the_scores():
    labels = np.minimum(LABELS, 4)  # the class 4 has half of the examples, 5 to 7 have none
    balanced = metrics.evaluate(LOGITS, labels)["balanced_accuracy"]
    predicted = LOGITS.argmax(-1)
    recalls = [(predicted == k)[labels == k].mean() for k in range(5)]
    assert balanced == pytest.approx(np.mean(recalls), rel=1e-12)
    assert balanced == score(LOGITS, labels, "abcdefgh")["macro"]["recall"]
    values = metrics.of_examples(jnp.asarray(LOGITS), jnp.asarray(labels))
    assert set(values) == {"loss", "accuracy", "top5"}  # a step does not see the whole set
