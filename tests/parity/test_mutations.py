"""The golden tests can fail: each of these small breaks of a model goes over their bound."""

import generated
import pytest
from flax import linen as nn
from generated import CASES, GOLDEN_CLASSES

from imgcls_jax.models import efficientnet, googlenet, layers, resnet


def same_padding(*args, padding, **options):
    return layers.Conv(*args, padding="SAME", **options)


def floor_pool(x, window, strides):
    return layers.max_pool(x, (window, window), (strides, strides))


def tanh_gelu(x, approximate, gelu=nn.gelu):
    return gelu(x, approximate=True)


UNTRANSFORMED = CASES["googlenet"]._replace(options={"dropout": 0.0, "transform_input": False})
MUTATIONS = {
    "padding": ("resnet18", resnet, "Conv", same_padding),
    "padding (Keras)": ("efficientnetv2_b0", efficientnet.Keras, "same", False),
    "epsilon": ("resnet18", resnet.Torchvision, "epsilon", 1e-3),
    "epsilon (of 1e-3)": ("googlenet", googlenet, "EPSILON", 1e-5),
    "ceil_mode": ("googlenet", googlenet, "ceil_max_pool", floor_pool),
    "stride": ("resnet50", resnet.Torchvision, "strided", 1),
    "stride (Keras)": ("resnet50_keras", resnet.Keras, "strided", 2),
    "input transform": ("googlenet", CASES, "googlenet", UNTRANSFORMED),
    "padding (Lite0)": ("efficientnet_lite0", efficientnet.Lite, "same", False),
    "epsilon (Lite0)": ("efficientnet_lite0", efficientnet.Lite, "epsilon", 1e-5),
    "activation (ReLU for ReLU6)": (
        "efficientnet_lite0",
        efficientnet.Lite,
        "activation",
        staticmethod(nn.relu),
    ),
    "activation": ("convnext_tiny", nn, "gelu", tanh_gelu),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_broken_model_is_noticed(mutation, monkeypatch, table):
    name, place, attribute, value = MUTATIONS[mutation]
    if isinstance(place, dict):
        monkeypatch.setitem(place, attribute, value)
    else:
        monkeypatch.setattr(place, attribute, value)
    arrays = generated.weights(generated.create(name, num_classes=GOLDEN_CLASSES))
    try:
        error = max(generated.golden_errors(name, arrays))
    except AssertionError:  # the last map has another shape
        error = float("inf")
    table(f"{name} with another {mutation}", f"{error:.1e}")
    assert error > generated.BOUND
