"""This package's own training, as imgcls_jax/training/loop.py runs it."""

import tempfile
from collections.abc import Callable

import flax
import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.contestants import Run
from benchmarks.tasks import EVERYTHING, NOTHING, TASKS
from configs import base
from imgcls_jax import backend, models
from imgcls_jax.data.batches import epoch_batches
from imgcls_jax.data.cache import cached
from imgcls_jax.data.dataset import Dataset
from imgcls_jax.data.transforms import parse
from imgcls_jax.training import adapt, inputs, optimizers, parallel, schedules
from imgcls_jax.training.dispatch import make_predict, make_train
from imgcls_jax.training.initializer import Initializer
from imgcls_jax.training.state import TrainState
from imgcls_jax.training.train_step import Recipe

PREDICTED_BATCHES = 8  # of a dispatch of predictions


def create(
    task_name: str,
    *,
    dispatch: str = "scanned",
    transform: str = "",
    budget: str = "",
) -> Run:
    """Returns the training of a task, or its prediction if nothing trains.

    dispatch: scanned (as the product does it), per_step (one step a dispatch), or jit (scanned, but
      with shard_map in place of pmap).
    transform: as in config.data.transform.
    budget: bytes of images on a device; the images then stream from a file. "" for no limit.
    """
    backend.configure()
    task = TASKS[task_name]
    config = base.get_config()
    config.optimizer.update(task.optimizer)
    images, labels = task.data()
    transform = parse(transform)
    model = models.create(ConfigDict({"name": task.model}), num_classes=task.classes)
    image = jax.eval_shape(transform, images[:1])
    variables = Initializer(model, image, seed=0).variables
    if task.trains == NOTHING:
        return _prediction(model, transform, variables, images, batch_size=task.batch_size)
    if task.trains == EVERYTHING:
        config.adapt.trainable = ()
    else:
        config.adapt.trainable = (task.trains,)
    model_state, params = flax.core.pop(variables, "params")
    adaptation = adapt.create(config, model, params, image)
    schedule = schedules.create(
        config.schedule,
        peak=config.optimizer.learning_rate,
        epochs=1,
        steps_per_epoch=1,
    )
    optimizer = optimizers.create(config.optimizer, schedule)
    train = make_train(
        Recipe(model=model, optimizer=optimizer, adaptation=adaptation),
        transform,
        steps_per_epoch=1,
        seed=0,
        backend="shard_map" if dispatch == "jit" else "pmap",
    )
    trainable, _ = adaptation.split(params)
    opt_state = optimizer.init(trainable)
    state = parallel.replicate(TrainState.create(params, model_state, opt_state))
    dataset = Dataset(images, labels, tuple(map(str, range(task.classes))))
    if budget:
        placed = inputs.place(_on_disk(task_name, dataset), budget=float(budget))
    else:
        placed = inputs.place(dataset)
    steps_per_dispatch = config.train.steps_per_dispatch
    if dispatch == "per_step":
        steps_per_dispatch = 1
    return _training(
        train,
        state,
        placed,
        num_examples=len(labels),
        batch_size=task.batch_size,
        steps_per_dispatch=steps_per_dispatch,
    )


def _training(
    train: Callable,
    state: TrainState,
    placed: tuple,
    *,
    num_examples: int,
    batch_size: int,
    steps_per_dispatch: int,
) -> Run:
    """Returns the training over epochs of shuffled batches, without end."""
    epoch = 0
    steps_left = 0  # of the epoch
    feed = None

    def run(count: int) -> None:
        nonlocal state, epoch, steps_left, feed
        while count:
            if not steps_left:
                batches = epoch_batches(num_examples, batch_size, seed=0, epoch=epoch)
                feed = inputs.Feed(placed, batches, most=steps_per_dispatch)
                steps_left = len(batches)
                epoch += 1
            taken = min(count, feed.ready())
            state, metrics = train(state, *feed.take(taken))
            parallel.fetch(metrics)
            count -= taken
            steps_left -= taken

    return run


def _prediction(model, transform, variables, images: np.ndarray, *, batch_size: int) -> Run:
    """Returns the prediction of batches as the product does it: many batches a dispatch."""
    predict = make_predict(model, transform, batch_size=batch_size)
    variables = parallel.replicate(variables)
    images = inputs.place_images(images[: PREDICTED_BATCHES * batch_size])

    def run(count: int) -> int:
        dispatches = -(-count // PREDICTED_BATCHES)
        for _ in range(dispatches):
            predict(variables, images)
        return dispatches * PREDICTED_BATCHES

    return run


def _on_disk(task_name: str, dataset: Dataset) -> Dataset:
    """Returns the data set as the cache of decoded data gives it.

    The file stays in the folder of temporary files.
    """
    folder = f"{tempfile.gettempdir()}/imgcls_jax_benchmarks"
    key = (task_name, dataset.fingerprint)
    splits = cached(folder, key, [], lambda: {"train": dataset})
    return splits["train"]
