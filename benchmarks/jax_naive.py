"""JAX as it is usually written: Flax's own layers, one jitted step, batches sliced by the host."""

import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from ml_collections import ConfigDict

from benchmarks.contestants import Run
from benchmarks.tasks import TASKS
from configs import base
from imgcls_jax import models
from imgcls_jax.models import cifar_resnet, cnn, convnext, googlenet, layers, lstm, resnet, vgg
from imgcls_jax.training import optimizers


class BatchNorm(nn.Module):
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, *, train: bool):
        norm = nn.BatchNorm(
            use_running_average=not train,
            momentum=self.momentum,
            epsilon=self.epsilon,
            dtype=self.dtype,
        )
        return norm(x)


def LSTM(features: int, *, dtype, forget_bias: float):
    cell = nn.OptimizedLSTMCell(
        features,
        dtype=dtype,
        recurrent_kernel_init=nn.initializers.orthogonal(),
    )
    return nn.RNN(cell)


def max_pool(x, window, strides=None, padding="VALID"):
    return nn.max_pool(x, window, strides or window, padding)


# The modules of the tasks' models.
REPLACED_IN = (layers, cifar_resnet, cnn, convnext, googlenet, lstm, resnet, vgg)
FLAX = {
    "Conv": nn.Conv,
    "max_pool": max_pool,
    "BatchNorm": BatchNorm,
    "LSTM": LSTM,
}


def use_flax_layers() -> None:
    """Replaces our layers in the models by Flax's, for the rest of this process."""
    for module in REPLACED_IN:
        for name, layer in FLAX.items():
            if hasattr(module, name):
                setattr(module, name, layer)


def create(task_name: str) -> Run:
    use_flax_layers()
    task = TASKS[task_name]
    config = base.get_config()
    config.optimizer.update(task.optimizer)
    images, labels = task.data()
    images = images.astype(np.float32) / 255
    model = models.create(ConfigDict({"name": task.model}), num_classes=task.classes)
    rate = optax.constant_schedule(config.optimizer.learning_rate)
    optimizer = optimizers.create(config.optimizer, rate)
    model_state = jax.jit(model.init)(jax.random.key(0), images[:1])
    params = model_state.pop("params")

    @jax.jit
    def train_step(params, model_state, opt_state, x, y):
        def loss_fn(params):
            logits, new_state = model.apply(
                {"params": params, **model_state},
                x,
                train=True,
                mutable=list(model_state),
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
            return losses.mean(), (logits, new_state)

        grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
        (loss, (logits, new_state)), grads = grad_fn(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
        accuracy = (logits.argmax(-1) == y).mean()
        return params, new_state, opt_state, loss, accuracy

    state = (params, model_state, optimizer.init(params))
    batches = shuffled_batches(len(labels), task.batch_size)

    def run(count: int) -> None:
        nonlocal state
        metrics = []
        for indices in itertools.islice(batches, count):
            x, y = jax.device_put((images[indices], labels[indices]))
            *state, loss, accuracy = train_step(*state, x, y)
            metrics.append((loss, accuracy))
        jax.device_get(metrics)

    return run


def shuffled_batches(num_examples: int, batch_size: int) -> Iterator[np.ndarray]:
    """Yields the indices of batches without end, in a new order each epoch."""
    rng = np.random.default_rng(0)
    while True:
        order = rng.permutation(num_examples)
        for start in range(0, num_examples - batch_size + 1, batch_size):
            yield order[start : start + batch_size]
