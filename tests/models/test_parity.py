"""Our models against what torchvision and Keras answered once (golden/, written by tests/parity/write_golden.py).

`make parity` compares anew, at 224 x 224, with gradients, and shows that these tests fail where a model is broken.
"""

import generated
import numpy as np
import pytest
from generated import CASES, GOLDEN, GOLDEN_CLASSES

from imgcls_jax import trees
from imgcls_jax.pretrained.port import port, unport


@pytest.fixture(scope="module", params=CASES)
def case(request):
    name = request.param
    arrays = generated.weights(generated.create(name, num_classes=GOLDEN_CLASSES))
    return name, arrays, np.load(GOLDEN / f"{name}.npz")


def test_agrees_with_the_reference(case):
    name, arrays, _ = case
    features, logits = generated.golden_errors(name, arrays)
    assert features <= generated.BOUND
    assert logits <= generated.BOUND


def test_key_map_gives_the_names_and_shapes_of_the_reference_and_back(case):
    name, arrays, golden = case
    exported = unport(generated.tree(arrays), name_of=CASES[name].name_of)
    assert (
        generated.digest({key: array.shape for key, array in exported.items()}) == golden["names"]
    )
    again = trees.flatten(port(exported, generated.tree(arrays), name_of=CASES[name].name_of))
    assert set(again) == set(arrays)
    assert all(np.array_equal(again[path], arrays[path]) for path in arrays)


def test_golden_file_can_tell_and_is_small(case):
    name, _, golden = case
    assert generated.apart(golden["logits"]) > 0.2
    assert (GOLDEN / f"{name}.npz").stat().st_size < 50_000
