"""This package's own training, as imgcls_jax/training/loop.py runs it."""

import tempfile
from unittest import mock

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from ml_collections import ConfigDict

from benchmarks.contestants import Run
from benchmarks.tasks import EVERYTHING, NOTHING, TASKS
from configs import base
from imgcls_jax import backend, models
from imgcls_jax.data.batches import epoch_batches
from imgcls_jax.data.cache import cached
from imgcls_jax.data.dataset import Dataset
from imgcls_jax.data.transforms import parse
from imgcls_jax.training import adapt, optimizers, schedules, steps
from imgcls_jax.training.state import TrainState

PREDICTED = 8  # batches of a dispatch of predictions


def create(
    task_name: str, *, dispatch: str = "scanned", transform: str = "", budget: str = ""
) -> Run:
    """dispatch: scanned (the product's way) | per_step (one step a dispatch) | jit (scanned, jax.jit for jax.pmap).

    transform: as config.data.transform has it. budget: bytes of images on a device, which then stream from a file.
    """
    backend.configure()
    task, config = TASKS[task_name], base.get_config()
    config.optimizer.update(task.optimizer)
    images, labels = task.data()
    transform = parse(transform)
    model = models.create(ConfigDict({"name": task.model}), num_classes=task.classes)
    params, model_state = steps.initialize(model, transform, images, seed=0)
    if task.trains == NOTHING:
        return _prediction(
            model, transform, {"params": params, **model_state}, images, task.batch_size
        )
    config.adapt.trainable = () if task.trains == EVERYTHING else (task.trains,)
    image = jax.eval_shape(transform, images[:1])
    adaptation, params = adapt.create(config, model, params, image, seed=0)
    optimizer = optimizers.create(config.optimizer)
    schedule = schedules.create(
        config.schedule, peak=config.optimizer.learning_rate, epochs=1, steps_per_epoch=1
    )
    with mock.patch.object(jax, "pmap", _jit_as_pmap if dispatch == "jit" else jax.pmap):
        train = steps.make_train(
            model, transform, optimizer, schedule, steps_per_epoch=1, adaptation=adaptation, seed=0
        )
    opt_state = optimizer.init(adaptation.split(params)[0])
    state = steps.replicate(TrainState.start(params, model_state, opt_state))
    dataset = Dataset(images, labels, tuple(map(str, range(task.classes))))
    data = (
        steps.place(_on_disk(task_name, dataset), budget=float(budget))
        if budget
        else steps.place(dataset)
    )
    most = 1 if dispatch == "per_step" else config.train.steps_per_dispatch
    epoch, left, feed = 0, 0, None

    def run(count: int) -> None:
        nonlocal state, epoch, left, feed
        while count:
            if not left:
                batches = epoch_batches(len(labels), task.batch_size, seed=0, epoch=epoch)
                epoch, left, feed = epoch + 1, len(batches), steps.Feed(data, batches, most=most)
            taken = min(count, feed.ready())
            state, metrics = train(state, *feed.take(taken))
            steps.fetch(metrics)
            count, left = count - taken, left - taken

    return run


def _prediction(model, transform, variables, images: np.ndarray, batch_size: int) -> Run:
    """Logits of so many batches as the product computes those of a test set: many batches a dispatch."""
    predict = steps.make_predict(model, transform, batch_size=batch_size)
    variables, images = (
        steps.replicate(variables),
        steps.place_images(images[: PREDICTED * batch_size]),
    )

    def run(count: int) -> int:
        dispatches = -(-count // PREDICTED)
        for _ in range(dispatches):
            predict(variables, images)
        return dispatches * PREDICTED

    return run


def _on_disk(task_name: str, dataset: Dataset) -> Dataset:
    """The same as the cache of decoded data gives it, in a file that stays in the folder of temporary files."""
    folder = f"{tempfile.gettempdir()}/imgcls_jax_benchmarks"
    return cached(folder, (task_name, dataset.fingerprint), [], lambda: {"train": dataset})["train"]


def _jit_as_pmap(function, *, axis_name, in_axes, out_axes, donate_argnums):
    """jax.jit of `function` on one device, for what steps.py hands to jax.pmap; the axis' name stays bound."""
    specs = tuple(PartitionSpec() if axis is None else PartitionSpec(axis_name) for axis in in_axes)

    def on_device(*arguments):
        return function(
            *(a if axis is None else a[0] for a, axis in zip(arguments, in_axes, strict=True))
        )

    mapped = jax.shard_map(
        on_device,
        mesh=Mesh(np.array(jax.devices()), (axis_name,)),
        in_specs=specs,
        out_specs=tuple(PartitionSpec() for _ in out_axes),
        check_vma=False,
    )
    return jax.jit(mapped, donate_argnums=donate_argnums)
