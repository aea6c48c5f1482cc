"""EfficientNet-Lite0 with its real weights, beside the implementation in torch: what the package's file is."""

import generated
import lite0
import numpy as np
import pytest
import torch
from flax import linen as nn

from imgcls_jax import trees
from imgcls_jax.errors import DataError
from imgcls_jax.models import efficientnet
from imgcls_jax.pretrained import CATALOG, formats, packages
from imgcls_jax.pretrained import efficientnet as names
from imgcls_jax.pretrained.port import port

SIZE = 224
PARTS = {
    "wrong epsilon": ("epsilon", 1e-5),
    "wrong padding": ("same", False),
    "ReLU for ReLU6": ("activation", staticmethod(nn.relu)),
}


@pytest.fixture(scope="module")
def weights():
    try:
        return formats.read(packages.find(CATALOG["efficientnet_lite0"]))
    except DataError as error:
        pytest.skip(str(error))


def outputs(weights) -> tuple[float, float]:
    """How far features and logits of two images are from torch's, as shares of its largest entries."""
    model = lite0.Lite0(1000).eval()
    state = {name: torch.from_numpy(array.copy()) for name, array in weights.items()}
    model.load_state_dict(state, strict=True)
    x = generated.images(2, SIZE, SIZE) * generated.STD + generated.MEAN  # in [0, 1]
    x = ((x * 255 - 127) / 128).astype(np.float32)
    with torch.no_grad():
        expected = model(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    shapes = generated.tree(
        generated.weights(generated.create("efficientnet_lite0", num_classes=1000))
    )
    ported = port(dict(weights), shapes, name_of=names.lite_name, ignored=names.IGNORED)
    _, logits = generated.outputs("efficientnet_lite0", trees.flatten(ported), x, num_classes=1000)
    return generated.difference(logits, expected), generated.apart(expected)


def test_real_weights(weights, table):
    error, apart = outputs(weights)
    table(
        "efficientnet_lite0, real weights",
        f"logits {error:.1e}",
        f"the two images' logits {apart:.2f}",
    )
    assert error <= generated.BOUND
    assert apart > 0.1


@pytest.mark.parametrize("part", PARTS)
def test_a_broken_model_is_noticed(weights, part, monkeypatch, table):
    monkeypatch.setattr(efficientnet.Lite, *PARTS[part])
    error, _ = outputs(weights)
    table(f"efficientnet_lite0, real weights, {part}", f"logits {error:.1e}")
    assert error > generated.BOUND
