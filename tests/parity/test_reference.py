"""Our models beside torchvision's and Keras', with the same generated weights and calibrated statistics."""

import generated
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
import torch
from generated import CASES

from imgcls_jax import trees
from imgcls_jax.pretrained import catalog
from imgcls_jax.pretrained.port import unport

SIZE = 224
SMALL = (32, 43)  # for training steps: their gradients are slow
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)  # Keras on torch


@pytest.mark.parametrize("name", CASES)
def test_features_and_logits(name, table):
    arrays = generated.weights(generated.create(name, num_classes=1000), seed=3)
    codes = generated.calibrate(
        name, arrays, generated.images(4, SIZE, SIZE, seed=4), num_classes=1000
    )
    arrays = generated.with_statistics(arrays, codes)
    x = generated.images(2, SIZE, SIZE, seed=5)
    expected = reference.outputs(
        name, reference.build(name, arrays, num_classes=1000, shape=(SIZE, SIZE)), x
    )
    ours = generated.outputs(name, arrays, x, num_classes=1000)
    features, logits = (generated.difference(*pair) for pair in zip(ours, expected, strict=True))
    apart = generated.apart(expected[1])
    table(
        name,
        f"features {features:.1e}",
        f"logits {logits:.1e}",
        f"the two images' logits {apart:.2f}",
    )
    assert features <= generated.BOUND
    assert logits <= generated.BOUND
    assert apart > 0.1


def in_training(name, arrays, x, labels, *, num_classes: int, dtype):
    """Our loss, gradients by path and updated statistics by path, in training mode."""
    model = generated.create(name, num_classes=num_classes, dtype=dtype)
    variables = jax.tree.map(lambda array: jnp.asarray(array, dtype), generated.tree(arrays))

    def loss(params):
        state = {**variables, "params": params}
        logits, updated = model.apply(state, x.astype(dtype), train=True, mutable=["batch_stats"])
        return -jax.nn.log_softmax(logits)[jnp.arange(len(x)), labels].mean(), updated

    (value, updated), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(
        variables["params"]
    )
    return float(value), trees.flatten({"params": gradients}), trees.flatten(updated)


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0"])
def test_a_training_step_in_float64(name, table):
    """Loss, gradients and statistics. torch keeps the unbiased variance n / (n - 1), we and Keras the batch's own."""
    x, labels = generated.images(4, *SMALL, seed=6), np.array([3, 1, 4, 1])
    arrays = generated.weights(generated.create(name, num_classes=10), seed=7)
    codes = generated.calibrate(name, arrays, x, num_classes=10)
    arrays = generated.with_statistics(arrays, codes)
    with jax.enable_x64(True):
        loss, gradients, statistics = in_training(
            name, arrays, x, labels, num_classes=10, dtype=jnp.float64
        )

    model = reference.build(name, arrays, num_classes=10, shape=SMALL, dtype="float64").train()
    layers = {
        module: path
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.BatchNorm2d)
    }
    counts = {}  # entries per channel that each BatchNorm sees

    def note(layer, inputs, _):
        counts[layers[layer]] = inputs[0].numel() // inputs[0].shape[1]

    for layer in layers:
        layer.register_forward_hook(note)
    expected = torch.nn.functional.cross_entropy(
        model(reference.torch_images(x, model)), torch.from_numpy(labels)
    )
    expected.backward()

    name_of = CASES[name].name_of
    keep = CASES[name].momentum
    theirs = {key: parameter.grad.numpy() for key, parameter in model.named_parameters()}
    ours = unport(gradients, name_of=name_of)
    assert set(ours) == set(theirs)
    # Some biases have no effect, as all channels of their map are normalised again: their gradients are rounding.
    smallest = 1e-6 * max(np.abs(gradient).max() for gradient in theirs.values())
    errors = [abs(loss / expected.item() - 1)]
    for key, gradient in theirs.items():
        errors.append(np.abs(ours[key] - gradient).max() / max(np.abs(gradient).max(), smallest))
    before, after = (
        unport(generated.tree(arrays), name_of=name_of),
        unport(statistics, name_of=name_of),
    )
    buffers = dict(model.named_buffers())
    for key, value in after.items():
        layer, statistic = key.rsplit(".", 1)
        if statistic == "running_var":
            batch = value - keep * before[key]
            value = keep * before[key] + batch * counts[layer] / (counts[layer] - 1)
        errors.append(generated.difference(value, buffers[key].numpy()))
    table(f"{name}, training step in float64", f"{max(errors):.1e}")
    assert max(errors) <= 1e-6


@pytest.mark.parametrize("name", ["resnet50_keras", "efficientnetv2_b0"])
def test_statistics_of_keras_after_a_training_step(name, table):
    x = generated.images(4, *SMALL, seed=8)
    arrays = generated.weights(generated.create(name, num_classes=10), seed=9)
    arrays = generated.with_statistics(arrays, generated.calibrate(name, arrays, x, num_classes=10))
    model = generated.create(name, num_classes=10)
    step = jax.jit(lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"])[1])
    ours = unport(step(generated.tree(arrays), x), name_of=CASES[name].name_of)

    theirs = reference.build(name, arrays, num_classes=10, shape=SMALL)
    for layer in theirs.layers:
        if layer.__class__.__name__ == "Dropout":
            layer.rate = 0
    with torch.no_grad():
        theirs(reference.keras_images(name, x).astype(np.float32), training=True)
    variables = reference.keras_variables(theirs)
    error = max(generated.difference(ours[key], variables[key].numpy()) for key in ours)
    table(f"{name}, running statistics after a step", f"{error:.1e}")
    assert error <= generated.BOUND


def test_layers_are_counted_as_keras_counts_them():
    """The names of all layers, and what of them "the last 30" and "the last 50" are."""
    reference.keras.utils.clear_session()  # else it numbers the layers that it names itself on from other tests
    model = reference.keras.applications.EfficientNetV2B0(
        weights=None, include_top=False, input_shape=(SIZE, SIZE, 3)
    )
    ours = catalog.key_map("efficientnetv2_b0").layers
    theirs = [layer.name for layer in model.layers]
    assert theirs[1:] == list(ours)[1:] and theirs[0].startswith(
        ours[0]
    )  # Keras numbers its input layers
