"""EfficientNet-Lite0 with its real weights beside the implementation in torch."""

import generated
import lite0
import numpy as np
import pytest
import torch
from flax import linen as nn
from styles import change_style

from imgcls_jax import trees
from imgcls_jax.errors import DataError
from imgcls_jax.pretrained import CATALOG, formats, key_map, packages
from imgcls_jax.pretrained.port import port

MODEL = "efficientnet_lite0"
SIZE = 224
STYLES = {
    "wrong epsilon": {"epsilon": 1e-5},
    "wrong padding": {"same_padding": False},
    "ReLU for ReLU6": {"activation": nn.relu},
}


@pytest.fixture(scope="module")
def weights():
    try:
        return formats.read(packages.find(CATALOG[MODEL]))
    except DataError as error:
        pytest.skip(str(error))


def logits_error(weights) -> tuple[float, float]:
    """How far the logits of two images are from torch's, and torch's two from each other.

    Both are shares of the largest entry.
    """
    x = generated.images(2, SIZE, SIZE) * generated.STD + generated.MEAN  # in [0, 1]
    x = ((x * 255 - 127) / 128).astype(np.float32)

    reference = lite0.Lite0(1000).eval()
    state = {name: torch.from_numpy(array.copy()) for name, array in weights.items()}
    reference.load_state_dict(state, strict=True)
    with torch.no_grad():
        expected = reference(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()

    model = generated.create(MODEL, num_classes=1000)
    shapes = generated.tree(generated.weights(model))
    names = key_map(MODEL)
    variables = port(dict(weights), shapes, name_of=names.name_of, ignored=names.ignored)
    _, logits = generated.outputs(MODEL, trees.flatten(variables), x, num_classes=1000)
    return generated.difference(logits, expected), generated.apart(expected)


def test_real_weights(weights, table):
    error, apart = logits_error(weights)
    table(f"{MODEL}, real weights", f"logits {error:.1e}", f"the two images' logits {apart:.2f}")
    assert error <= generated.BOUND
    assert apart > 0.1


@pytest.mark.parametrize("mutation", STYLES)
def test_a_broken_model_is_noticed(weights, mutation, monkeypatch, table):
    change_style(monkeypatch, MODEL, **STYLES[mutation])
    error, _ = logits_error(weights)
    table(f"{MODEL}, real weights, {mutation}", f"logits {error:.1e}")
    assert error > generated.BOUND
