"""JAX as it is usually written: Flax' own layers, one jitted step, batches handed over by the host, no flags."""

import itertools

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
            not train, momentum=self.momentum, epsilon=self.epsilon, dtype=self.dtype
        )
        return norm(x)


def LSTM(features: int, *, dtype, forget_bias: float):
    cell = nn.OptimizedLSTMCell(
        features, dtype=dtype, recurrent_kernel_init=nn.initializers.orthogonal()
    )
    return nn.RNN(cell)


# The modules of the tasks' models.
REPLACED_IN = (layers, cifar_resnet, cnn, convnext, googlenet, lstm, resnet, vgg)
FLAX = {
    "Conv": nn.Conv,
    "max_pool": lambda x, window, strides=None, padding="VALID": nn.max_pool(
        x, window, strides or window, padding
    ),
    "BatchNorm": BatchNorm,
    "LSTM": LSTM,
}


def use_flax_layers() -> None:
    """Puts Flax' layers in the place of ours in the models, for the rest of this process."""
    for module in REPLACED_IN:
        for name, layer in FLAX.items():
            if hasattr(module, name):
                setattr(module, name, layer)


def create(task_name: str) -> Run:
    use_flax_layers()
    task, config = TASKS[task_name], base.get_config()
    config.optimizer.update(task.optimizer)
    images, labels = task.data()
    images = images.astype(np.float32) / 255
    model = models.create(ConfigDict({"name": task.model}), num_classes=task.classes)
    optimizer = optax.chain(
        optimizers.create(config.optimizer), optax.scale(-config.optimizer.learning_rate)
    )
    variables = jax.jit(lambda x: model.init(jax.random.key(0), x))(images[:1])
    params = variables.pop("params")

    @jax.jit
    def step(params, model_state, opt_state, x, y):
        def loss_fn(params):
            logits, changed = model.apply(
                {"params": params, **model_state}, x, train=True, mutable=list(model_state)
            )
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), (
                logits,
                changed,
            )

        (loss, (logits, model_state)), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        accuracy = (logits.argmax(-1) == y).mean()
        return optax.apply_updates(params, updates), model_state, opt_state, loss, accuracy

    state = (params, variables, optimizer.init(params))
    batches = shuffled_batches(len(labels), task.batch_size)

    def run(count: int) -> None:
        nonlocal state
        metrics = []
        for index in itertools.islice(batches, count):
            *state, loss, accuracy = step(*state, *jax.device_put((images[index], labels[index])))
            metrics.append((loss, accuracy))
        jax.device_get(metrics)

    return run


def shuffled_batches(examples: int, batch_size: int):
    """Indices of one batch after the other, in a new order each epoch, without end."""
    random = np.random.default_rng(0)
    while True:
        order = random.permutation(examples)
        for start in range(0, examples - batch_size + 1, batch_size):
            yield order[start : start + batch_size]
