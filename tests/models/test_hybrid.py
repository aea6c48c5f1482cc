import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.nn import softmax
from ml_collections import ConfigDict

from imgcls_jax import models, trees
from imgcls_jax.errors import ConfigError
from imgcls_jax.models.hybrid import AdaptiveFusion, AttentionFusion

X = jnp.asarray(np.random.default_rng(0).random((2, 32, 32, 3)), jnp.float32)
SMALL = {"name": "hybrid", "backbones": ("resnet20", "vgg")}


def create(**options):
    return models.create(ConfigDict({"name": "hybrid", **options}), num_classes=10)


def shapes(**options):
    return jax.eval_shape(lambda: create(**options).init(jax.random.key(0), X))


def test_report_es_head():
    found = shapes(backbones=("efficientnetv2_b0",), head_kind="normalized")
    assert trees.count(found) == 6_255_962 and trees.count(found["params"]["top"]) == 333_578


def test_report_as_hybrid_and_report_ds_se_block():
    found = shapes(backbones=("resnet18", "googlenet"), projection=512, head_kind="fusion")[
        "params"
    ]
    assert trees.count(found["projection_resnet18"]) == 512 * 512 + 512
    assert trees.count(found["projection_googlenet"]) == 1024 * 512 + 512
    assert found["top"]["hidden"]["kernel"].shape == (1024, 256) and "fc" not in found["resnet18"]
    found = shapes(backbones=("resnet50",), se=True)["params"]
    assert found["se_resnet50"]["block"]["fc1"]["kernel"].shape == (1, 1, 2048, 128)
    assert trees.count(found["top"]) == 20_490


def test_by_hand():
    """The pooled features of the backbones, side by side, through the head."""
    model = create(backbones=("resnet20", "vgg"))
    variables = model.init(jax.random.key(0), X)
    pooled = []
    for name in model.backbones:
        backbone = models.create(ConfigDict({"name": name}), num_classes=10)
        own = {collection: tree[name] for collection, tree in variables.items() if name in tree}
        pooled.append(backbone.apply(own, X, method="encode"))
    top = variables["params"]["top"]["classifier"]
    expected = np.concatenate(pooled, -1) @ top["kernel"] + top["bias"]
    np.testing.assert_allclose(model.apply(variables, X), expected, atol=1e-5)
    assert isinstance(model.apply(variables, X, method="features"), tuple)


def fused(fusion):
    """The parameters of a fusion, two backbones' projections of two images [2, 6], and what comes of them."""
    module = {"adaptive": AdaptiveFusion, "attention": AttentionFusion}[fusion]()
    projections = list(np.random.default_rng(0).normal(size=(2, 2, 6)).astype(np.float32))
    encoded, variables = module.init_with_output(jax.random.key(0), projections)
    model = create(backbones=("resnet20", "vgg"), projection=6, fusion=fusion)
    whole = jax.eval_shape(model.init, jax.random.key(0), X)["params"]
    assert jax.tree.map(jnp.shape, variables["params"]) == jax.tree.map(jnp.shape, whole["fuse"])
    assert whole["top"]["classifier"]["kernel"].shape[0] == encoded.shape[-1]
    return variables["params"], projections, np.asarray(encoded)


def test_adaptive_fusion_by_hand():
    params, projections, encoded = fused("adaptive")
    gate = params["gate"]
    shares = softmax(np.concatenate(projections, -1) @ gate["kernel"] + gate["bias"])
    np.testing.assert_allclose(
        encoded, shares[:, :1] * projections[0] + shares[:, 1:] * projections[1], atol=1e-5
    )


def test_attention_over_projections_by_hand():
    params, projections, encoded = fused("attention")
    for image in range(2):
        tokens = np.stack([projection[image] for projection in projections])
        query, key, value = (
            tokens @ params[name]["kernel"] + params[name]["bias"]
            for name in ("query", "key", "value")
        )
        expected = tokens + softmax(query @ key.T / np.sqrt(6)) @ value
        np.testing.assert_allclose(encoded[image], expected.ravel(), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "said"),
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
def test_what_cannot_be(options, said):
    with pytest.raises(ConfigError, match=said):
        create(**options)
