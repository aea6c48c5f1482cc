"""Our confident learning beside Cleanlab's: `make parity` installs it."""

import numpy as np
import pytest

from imgcls_jax.evaluation import confident_learning, scores

filters = pytest.importorskip("cleanlab.filter", reason="cleanlab: requirements-parity.txt")


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("num_classes", "noise"), [(2, 0.1), (10, 0.05), (10, 0.3), (40, 0.1)])
def test_the_same_examples_in_the_same_order(num_classes, noise):
    generator = np.random.default_rng(num_classes)
    size = 4000
    true = generator.integers(num_classes, size=size)
    logits = generator.normal(size=(size, num_classes))
    logits += 4 * np.eye(num_classes)[true]
    probabilities = scores.softmax(logits)
    labels = true.copy()
    is_wrong = generator.random(size) < noise
    labels[is_wrong] = generator.integers(num_classes, size=is_wrong.sum())
    expected = filters.find_label_issues(
        labels,
        probabilities,
        filter_by="confident_learning",
        return_indices_ranked_by="self_confidence",
    )
    actual = confident_learning.label_errors(labels, probabilities)
    assert len(actual) > 50
    np.testing.assert_array_equal(actual, expected)
