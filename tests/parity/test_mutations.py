"""The golden tests can fail: each of these small mistakes in a model exceeds their bound."""

import generated
import pytest
from flax import linen as nn
from generated import CASES, GOLDEN_CLASSES
from styles import change_style

from imgcls_jax.models import googlenet, layers, resnet


def same_padding(*args, padding, **options):
    return layers.Conv(*args, padding="SAME", **options)


def floor_pool(x, window, stride):
    return layers.max_pool(x, (window, window), (stride, stride))


def tanh_gelu(x, approximate, gelu=nn.gelu):
    return gelu(x, approximate=True)


# Model, and changes of its style.
STYLES = {
    "padding (Keras)": ("efficientnetv2_b0", {"same_padding": False}),
    "epsilon": ("resnet18", {"epsilon": 1e-3}),
    "stride": ("resnet50", {"strided_conv": 1}),
    "stride (Keras)": ("resnet50_keras", {"strided_conv": 2}),
    "padding (Lite0)": ("efficientnet_lite0", {"same_padding": False}),
    "epsilon (Lite0)": ("efficientnet_lite0", {"epsilon": 1e-5}),
    "activation (ReLU for ReLU6)": ("efficientnet_lite0", {"activation": nn.relu}),
}
# Model, and what is put in the place of an attribute of a module.
ATTRIBUTES = {
    "padding": ("resnet18", resnet, "Conv", same_padding),
    "epsilon (of 1e-3)": ("googlenet", googlenet, "EPSILON", 1e-5),
    "ceil_mode": ("googlenet", googlenet, "ceil_max_pool", floor_pool),
    "activation": ("convnext_tiny", nn, "gelu", tanh_gelu),
}


def assert_noticed(model, mutation, table) -> None:
    arrays = generated.weights(generated.create(model, num_classes=GOLDEN_CLASSES))
    try:
        error = max(generated.golden_errors(model, arrays))
    except AssertionError:  # the last map has another shape
        error = float("inf")
    table(f"{model} with another {mutation}", f"{error:.1e}")
    assert error > generated.BOUND


@pytest.mark.parametrize("mutation", STYLES)
def test_another_style_is_noticed(mutation, monkeypatch, table):
    model, changes = STYLES[mutation]
    change_style(monkeypatch, model, **changes)
    assert_noticed(model, mutation, table)


@pytest.mark.parametrize("mutation", ATTRIBUTES)
def test_another_layer_is_noticed(mutation, monkeypatch, table):
    model, module, attribute, value = ATTRIBUTES[mutation]
    monkeypatch.setattr(module, attribute, value)
    assert_noticed(model, mutation, table)


def test_another_input_transform_is_noticed(monkeypatch, table):
    case = CASES["googlenet"]
    options = case.options | {"transform_input": False}
    monkeypatch.setitem(CASES, "googlenet", case._replace(options=options))
    assert_noticed("googlenet", "input transform", table)
