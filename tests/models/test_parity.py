"""Our models against the outputs of torchvision and Keras in golden/.

tests/parity/write_golden.py has written those.

`make parity` compares again, at 224 x 224 and with gradients, and shows that these tests fail if a
model is broken.
"""

import generated
import numpy as np
import pytest
from generated import CASES, GOLDEN, GOLDEN_CLASSES

from imgcls_jax import trees
from imgcls_jax.pretrained.port import port, unport


@pytest.fixture(scope="module", params=CASES)
def model(request):
    """The model's name, its weights by path, and the golden file."""
    name = request.param
    arrays = generated.weights(generated.create(name, num_classes=GOLDEN_CLASSES))
    return name, arrays, np.load(GOLDEN / f"{name}.npz")


def test_agrees_with_the_reference(model):
    name, arrays, _ = model
    features_error, logits_error = generated.golden_errors(name, arrays)
    assert features_error <= generated.BOUND
    assert logits_error <= generated.BOUND


def test_key_map_gives_the_names_and_shapes_of_the_reference_and_back(model):
    name, arrays, golden = model
    name_of = CASES[name].name_of
    variables = generated.tree(arrays)
    exported = unport(variables, name_of=name_of)
    shapes = {key: array.shape for key, array in exported.items()}
    assert generated.digest(shapes) == golden["names"]
    imported = trees.flatten(port(exported, variables, name_of=name_of))
    assert set(imported) == set(arrays)
    for path, array in arrays.items():
        np.testing.assert_array_equal(imported[path], array)


def test_golden_file_tells_images_apart_and_is_small(model):
    name, _, golden = model
    assert generated.apart(golden["logits"]) > 0.2
    assert (GOLDEN / f"{name}.npz").stat().st_size < 50_000
