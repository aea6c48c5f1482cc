"""Our models beside torchvision's and Keras', with generated weights and calibrated statistics."""

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
# A warning of Keras on torch.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def calibrated_weights(name, x, *, num_classes: int, seed: int) -> dict[str, np.ndarray]:
    """Generated weights with the statistics of the images x."""
    model = generated.create(name, num_classes=num_classes)
    arrays = generated.weights(model, seed=seed)
    codes = generated.calibrate(name, arrays, x, num_classes=num_classes)
    return generated.with_statistics(arrays, codes)


@pytest.mark.parametrize("name", CASES)
def test_features_and_logits(name, table):
    calibration = generated.images(4, SIZE, SIZE, seed=4)
    arrays = calibrated_weights(name, calibration, num_classes=1000, seed=3)
    x = generated.images(2, SIZE, SIZE, seed=5)
    model = reference.build(name, arrays, num_classes=1000, shape=(SIZE, SIZE))
    expected_features, expected_logits = reference.outputs(name, model, x)
    features, logits = generated.outputs(name, arrays, x, num_classes=1000)
    features_error = generated.difference(features, expected_features)
    logits_error = generated.difference(logits, expected_logits)
    apart = generated.apart(expected_logits)
    table(
        name,
        f"features {features_error:.1e}",
        f"logits {logits_error:.1e}",
        f"the two images' logits {apart:.2f}",
    )
    assert features_error <= generated.BOUND
    assert logits_error <= generated.BOUND
    assert apart > 0.1


def training_step(name, arrays, x, labels, *, num_classes: int, dtype):
    """Our loss, gradients by path and updated statistics by path, in training mode."""
    model = generated.create(name, num_classes=num_classes, dtype=dtype)
    variables = jax.tree.map(lambda array: jnp.asarray(array, dtype), generated.tree(arrays))

    def loss_fn(params):
        state = {**variables, "params": params}
        logits, updated = model.apply(state, x.astype(dtype), train=True, mutable=["batch_stats"])
        log_probabilities = jax.nn.log_softmax(logits)
        return -log_probabilities[jnp.arange(len(x)), labels].mean(), updated

    value_and_grad = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))
    (loss, updated), gradients = value_and_grad(variables["params"])
    return float(loss), trees.flatten({"params": gradients}), trees.flatten(updated)


def torch_training_step(model, x, labels):
    """torch's loss, and the number of entries per channel that each BatchNorm gets.

    The gradients are in the model.
    """
    counts = {}

    def count_entries(path):
        def hook(layer, inputs, output):
            (images,) = inputs
            counts[path] = images.numel() // images.shape[1]

        return hook

    for path, layer in model.named_modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.register_forward_hook(count_entries(path))
    logits = model(reference.torch_images(x, model))
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels))
    loss.backward()
    return loss.item(), counts


def gradient_errors(gradients, expected) -> list[float]:
    """The largest difference of each gradient, as a share of its largest entry."""
    assert set(gradients) == set(expected)
    largest = {key: np.abs(gradient).max() for key, gradient in expected.items()}
    # Some biases have no effect, as all channels of their map are normalised again: their gradients
    # are rounding.
    smallest_scale = 1e-6 * max(largest.values())
    errors = []
    for key, gradient in expected.items():
        error = np.abs(gradients[key] - gradient).max()
        errors.append(error / max(largest[key], smallest_scale))
    return errors


def statistics_errors(before, after, buffers, counts, *, momentum: float) -> list[float]:
    """The errors of updated statistics.

    torch keeps the unbiased variance n / (n - 1), while we and Keras keep the batch's own.
    """
    errors = []
    for key, value in after.items():
        layer, statistic = key.rsplit(".", 1)
        if statistic == "running_var":
            batch = value - momentum * before[key]
            unbiased = batch * counts[layer] / (counts[layer] - 1)
            value = momentum * before[key] + unbiased
        errors.append(generated.difference(value, buffers[key].numpy()))
    return errors


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0"])
def test_a_training_step_in_float64(name, table):
    """Loss, gradients and statistics."""
    x = generated.images(4, *SMALL, seed=6)
    labels = np.array([3, 1, 4, 1])
    arrays = calibrated_weights(name, x, num_classes=10, seed=7)
    with jax.enable_x64(True):
        loss, gradients, statistics = training_step(
            name, arrays, x, labels, num_classes=10, dtype=jnp.float64
        )

    model = reference.build(name, arrays, num_classes=10, shape=SMALL, dtype="float64").train()
    expected_loss, counts = torch_training_step(model, x, labels)
    expected = {key: parameter.grad.numpy() for key, parameter in model.named_parameters()}

    name_of = CASES[name].name_of
    errors = [abs(loss / expected_loss - 1)]
    errors += gradient_errors(unport(gradients, name_of=name_of), expected)
    errors += statistics_errors(
        unport(generated.tree(arrays), name_of=name_of),
        unport(statistics, name_of=name_of),
        dict(model.named_buffers()),
        counts,
        momentum=CASES[name].momentum,
    )
    table(f"{name}, training step in float64", f"{max(errors):.1e}")
    assert max(errors) <= 1e-6


@pytest.mark.parametrize("name", ["resnet50_keras", "efficientnetv2_b0"])
def test_statistics_of_keras_after_a_training_step(name, table):
    x = generated.images(4, *SMALL, seed=8)
    arrays = calibrated_weights(name, x, num_classes=10, seed=9)
    model = generated.create(name, num_classes=10)

    @jax.jit
    def step(variables, x):
        _, updated = model.apply(variables, x, train=True, mutable=["batch_stats"])
        return updated

    statistics = unport(step(generated.tree(arrays), x), name_of=CASES[name].name_of)

    keras_model = reference.build(name, arrays, num_classes=10, shape=SMALL)
    for layer in keras_model.layers:
        if layer.__class__.__name__ == "Dropout":
            layer.rate = 0
    with torch.no_grad():
        keras_model(reference.keras_images(name, x).astype(np.float32), training=True)
    variables = reference.keras_variables(keras_model)
    errors = []
    for key, value in statistics.items():
        errors.append(generated.difference(value, variables[key].numpy()))
    table(f"{name}, running statistics after a step", f"{max(errors):.1e}")
    assert max(errors) <= generated.BOUND


def test_layers_are_counted_as_keras_counts_them():
    """The names of all layers, so that "the last 30" are the same layers."""
    # Keras numbers the layers to which it gives names, also over several models.
    reference.keras.utils.clear_session()
    model = reference.keras.applications.EfficientNetV2B0(
        weights=None, include_top=False, input_shape=(SIZE, SIZE, 3)
    )
    layers = catalog.key_map("efficientnetv2_b0").layers
    keras_layers = [layer.name for layer in model.layers]
    assert keras_layers[1:] == list(layers)[1:]
    assert keras_layers[0].startswith(layers[0])  # Keras numbers its input layers
