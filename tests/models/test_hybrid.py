"""The hybrid: its heads, its fusions, and what each backbone contributes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from generated import initialized
from jax.nn import softmax
from ml_collections import ConfigDict

from imgcls_jax import models, trees
from imgcls_jax.errors import ConfigError
from imgcls_jax.models.hybrid import AdaptiveFusion, AttentionFusion

X = jnp.asarray(np.random.default_rng(0).random((2, 32, 32, 3)), jnp.float32)
SMALL = ("resnet20", "vgg")


def create(**options):
    return models.create(ConfigDict({"name": "hybrid", **options}), num_classes=10)


def shapes(**options):
    return jax.eval_shape(lambda: create(**options).init(jax.random.key(0), X))


def test_head_of_report_e():
    variables = shapes(backbones=("efficientnetv2_b0",), head_kind="normalized")
    assert trees.count(variables) == 6_255_962
    assert trees.count(variables["params"]["top"]) == 333_578


def test_hybrid_of_report_a():
    variables = shapes(backbones=("resnet18", "googlenet"), projection=512, head_kind="fusion")
    params = variables["params"]
    assert trees.count(params["projection_resnet18"]) == 512 * 512 + 512
    assert trees.count(params["projection_googlenet"]) == 1024 * 512 + 512
    assert params["top"]["hidden"]["kernel"].shape == (1024, 256)
    assert "fc" not in params["resnet18"]


def test_squeeze_and_excitation_of_report_d():
    params = shapes(backbones=("resnet50",), se=True)["params"]
    assert params["se_resnet50"]["block"]["fc1"]["kernel"].shape == (1, 1, 2048, 128)
    assert trees.count(params["top"]) == 20_490


def test_by_hand():
    """The pooled features of the backbones, side by side, through the head."""
    model = create(backbones=SMALL)
    variables = initialized(model, X)
    pooled = []
    for name in model.backbones:
        backbone = models.create(ConfigDict({"name": name}), num_classes=10)
        backbone_variables = {
            collection: tree[name] for collection, tree in variables.items() if name in tree
        }
        pooled.append(backbone.apply(backbone_variables, X, method="encode"))
    top = variables["params"]["top"]["classifier"]
    expected = np.concatenate(pooled, -1) @ top["kernel"] + top["bias"]
    np.testing.assert_allclose(model.apply(variables, X), expected, atol=1e-5)
    assert isinstance(model.apply(variables, X, method="features"), tuple)


def fused(module, fusion):
    """A fusion's parameters, two backbones' projections of two images [2, 6], and its output."""
    projections = list(np.random.default_rng(0).normal(size=(2, 2, 6)).astype(np.float32))
    output, variables = module.init_with_output(jax.random.key(0), projections)
    params = shapes(backbones=SMALL, projection=6, fusion=fusion)["params"]
    assert jax.tree.map(jnp.shape, variables["params"]) == jax.tree.map(jnp.shape, params["fuse"])
    assert params["top"]["classifier"]["kernel"].shape[0] == output.shape[-1]
    return variables["params"], projections, np.asarray(output)


def test_adaptive_fusion_by_hand():
    params, projections, output = fused(AdaptiveFusion(), "adaptive")
    first, second = projections
    gate = params["gate"]
    scores = np.concatenate(projections, -1) @ gate["kernel"] + gate["bias"]
    weights = softmax(scores)
    expected = weights[:, :1] * first + weights[:, 1:] * second
    np.testing.assert_allclose(output, expected, atol=1e-5)


def test_attention_over_projections_by_hand():
    params, projections, output = fused(AttentionFusion(), "attention")
    for image in range(2):
        tokens = np.stack([projection[image] for projection in projections])

        def dense(name, tokens=tokens):
            return tokens @ params[name]["kernel"] + params[name]["bias"]

        weights = softmax(dense("query") @ dense("key").T / np.sqrt(6))
        expected = tokens + weights @ dense("value")
        np.testing.assert_allclose(output[image], expected.ravel(), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fusion": "atention", "projection": 8}, "Did you mean 'attention'"),
        ({"fusion": "adaptive"}, "config.model.projection, their common width"),
        ({"fusion": "attention", "projection": 8, "backbones": ("vgg",)}, "of 1 backbones"),
        ({"head_kind": "linaer"}, "Did you mean 'linear'"),
        ({"backbones": ()}, "one or more names"),
        ({"backbones": ("vgg", "vgg")}, "each once"),
        ({"backbones": ("hybrid",)}, "names of models"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        create(**options)
