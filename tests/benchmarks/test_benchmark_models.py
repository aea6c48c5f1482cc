"""The models of the benchmark have the reports' number of parameters in each library."""

import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from benchmarks import jax_naive
from benchmarks.tasks import EVERYTHING, TASKS
from imgcls_jax import models, trees

# Trainable parameters; ResNet-20 has 1,568 batch statistics beside them, 274,826 in all.
PARAMETERS = {
    "cnn": 93_322,
    "lstm": 89_290,
    "attention": 245_258,
    "cifar_cnn": 122_570,
    "vgg": 402_058,
    "resnet20": 273_258,
    "se_resnet": 4_697_742,
    "efficientnet_b0": 4_020_358,
    "efficientnetv2_b0": 5_871_514,
    "convnext_tiny": 27_827_818,
    "googlenet": 5_610_154,
    "resnet18": 11_181_642,
    "resnet50": 23_528_522,
}
WHOLE = [name for name, task in TASKS.items() if task.trains == EVERYTHING]


def variables_of(name: str):
    model = models.create(ConfigDict({"name": TASKS[name].model}), num_classes=10)
    x = jnp.zeros((2, *TASKS[name].image))
    return jax.eval_shape(lambda: model.init(jax.random.key(0), x))


@pytest.fixture
def flax_layers(monkeypatch):
    for module in jax_naive.REPLACED_IN:
        for layer in jax_naive.FLAX:
            if hasattr(module, layer):
                monkeypatch.setattr(module, layer, getattr(module, layer))  # puts them back
    jax_naive.use_flax_layers()


def test_every_task_has_a_count():
    assert set(PARAMETERS) == set(WHOLE)


@pytest.mark.parametrize("name", WHOLE)
def test_parameters_of_ours(name):
    assert trees.count(variables_of(name)["params"]) == PARAMETERS[name]


@pytest.mark.parametrize("name", WHOLE)
def test_parameters_of_naive_jax(name, flax_layers):
    assert trees.count(variables_of(name)["params"]) == PARAMETERS[name]


@pytest.mark.parametrize("name", WHOLE)
def test_parameters_of_torch(name):
    pytest.importorskip("torch", reason="torch is a requirement of the benchmark alone")
    from benchmarks.torch_eager import MODELS, model_of

    if name not in MODELS:
        reason = "torchvision is a requirement of the benchmark alone"
        pytest.importorskip("torchvision", reason=reason)
    if name == "efficientnetv2_b0":
        pytest.skip("torchvision has another EfficientNetV2")
    model = model_of(TASKS[name], name)
    count = sum(parameter.numel() for parameter in model.parameters())
    expected = PARAMETERS[name]
    if name == "lstm":
        expected += 4 * 128  # torch has a second bias vector, which is added to the first
    assert count == expected
