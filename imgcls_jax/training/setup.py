"""From a config to what training runs on: model, transform, optimizer, compiled steps, first state."""

import dataclasses
import logging
from collections.abc import Callable, Sequence
from typing import Any

import flax
import jax
import numpy as np
from flax import linen as nn
from ml_collections import ConfigDict

from imgcls_jax import models, pretrained, trees
from imgcls_jax.config import reads
from imgcls_jax.data import Splits, device_budget
from imgcls_jax.data.batches import balanced_batches, steps_in_epoch
from imgcls_jax.data.dataset import Dataset
from imgcls_jax.data.streaming import steps_in_window
from imgcls_jax.data.transforms import Transform, parse
from imgcls_jax.data.views import VIEWS, View
from imgcls_jax.errors import ConfigError, choose
from imgcls_jax.pretrained.port import Variables
from imgcls_jax.training import (
    adapt,
    dispatch,
    features,
    inputs,
    metrics,
    objectives,
    optimizers,
    parallel,
    phases,
    schedules,
)
from imgcls_jax.training.adapt import EVERYTHING, Adaptation
from imgcls_jax.training.checks import PRECISIONS
from imgcls_jax.training.checks import check as check_options
from imgcls_jax.training.initializer import Initializer
from imgcls_jax.training.schedules import Plateau, Schedule
from imgcls_jax.training.state import TrainState
from imgcls_jax.training.train_step import Recipe

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Setup:
    """What a training, or a phase of it, runs on."""

    name: str  # of the phase; "" if there is only one
    config: ConfigDict  # of the phase
    steps_per_epoch: int
    schedule: Schedule  # learning rate by the steps of the phase
    train: dispatch.TrainSteps
    predict: Callable[..., np.ndarray]
    shapes: TrainState  # the state without content
    initializer: Initializer  # the same for all phases
    start: Callable[[Variables], TrainState]  # variables -> the state before the first step
    prepare: Callable[[Variables], Variables]  # what the model computes of its training images
    optimizer: optimizers.Optimizer
    adaptation: Adaptation
    plateau: Plateau | None
    early_stopping: int  # epochs without improvement that end the phase; 0 for none
    embed: Callable[..., np.ndarray] | None  # variables, images -> features, if computed only once
    budget: float | None  # bytes of images that a device may hold, if not all of them fit

    def begin(self, state: TrainState, *, after: "Setup") -> TrainState:
        """Returns the state with which the phase begins, from that at the end of the one before.

        after: the one before. If its optimizer validates an average, that is gone on from.
        """
        params = state.params
        if optimizers.averages(after.config.optimizer):
            params = state.model["params"]
        trainable, _ = self.adaptation.split(params)
        return state.replace(params=params, opt_state=self.optimizer.init(trainable))

    def first_state(self, config: ConfigDict, class_names: Sequence[str]) -> TrainState:
        """Returns the state before the first step, not yet on the devices.

        What `config.model.pretrained` has no weights for is drawn, low-rank pairs among it.
        """
        if not config.model.get("pretrained"):
            return self.drawn_state()
        loaded = pretrained.initialize(config, self.initializer.shapes, class_names=class_names)
        return self.start(self.initializer.fill(loaded))

    def drawn_state(self) -> TrainState:
        """Returns the state before the first step with all weights drawn."""
        return self.start(self.prepare(self.initializer.variables))

    def batches(self, train: Dataset, *, epoch: int) -> np.ndarray:
        """Returns the batches of an epoch, as indices int32 [steps, batch_size]."""
        settings = self.config.train
        return balanced_batches(
            train.labels,
            settings.batch_size,
            balance=settings.balanced_sampling,
            seed=self.config.seed,
            epoch=epoch,
        )

    def learning_rate(self, state: TrainState, step: int) -> float:
        """Returns the learning rate of a step, counted from the start of the phase."""
        return float(self.schedule(step)) * self._plateau_factor(state)

    def lower_rate(self, state: TrainState) -> TrainState:
        """Returns the state with a learning rate that has fallen, as the plateau schedule says."""
        factor = self._plateau_factor(state) * self.plateau.factor
        factor = np.float32(max(factor, self.plateau.min_factor))
        return state.replace(
            opt_state=optimizers.set_plateau_factor(state.opt_state, parallel.replicate(factor))
        )

    def _plateau_factor(self, state: TrainState) -> float:
        if self.plateau is None:
            return 1.0
        return float(parallel.fetch(optimizers.plateau_factor(state.opt_state)))

    def place(self, state: TrainState, dataset: Dataset) -> tuple[tuple[Any, dict], float]:
        """Puts on the devices what `train` and `predict` read of a data set.

        Returns images (or their features) with targets, and the seconds that the features take to
        compute, 0 without.
        """
        if self.embed is None:
            return inputs.place(dataset, budget=self.budget), 0.0
        paths = self.adaptation.feature_paths
        vectors, seconds = features.compute(
            self.config, self.embed, state.variables, paths, dataset
        )
        return parallel.replicate((vectors, dataset.targets)), seconds


def build_model(config: ConfigDict, *, num_classes: int) -> tuple[nn.Module, Transform]:
    """Returns the model of a run's config, and the transform of its images."""
    dtype = choose("train.precision", config.train.precision, PRECISIONS)
    model = models.create(config.model, num_classes=num_classes, dtype=dtype)
    return model, parse(config.data.transform)


def num_features(model: nn.Module, image: jax.ShapeDtypeStruct) -> int:
    """Returns the size of the vector that the model makes of a transformed image, [1, H, W, C]."""

    def encode(x):
        vectors, _ = model.init_with_output(jax.random.key(0), x, method="encode")
        return vectors

    return jax.eval_shape(encode, image).size


def build_predict(
    config: ConfigDict,
    model: nn.Module,
    transform: Transform,
    *,
    adaptation: Adaptation = EVERYTHING,
    method: str | Callable = "__call__",
    across_processes: bool = False,
) -> Callable[..., np.ndarray]:
    """Returns `dispatch.make_predict` with batch size and test-time augmentation of the config."""
    return dispatch.make_predict(
        model,
        transform,
        batch_size=config.train.eval_batch_size,
        tta=tta_views(config),
        adaptation=adaptation,
        method=method,
        winograd=config.train.winograd,
        across_processes=across_processes,
        backend=config.train.parallel,
    )


def tta_views(config: ConfigDict) -> Sequence[tuple[float, View]]:
    """Returns the views of an image over which evaluation averages, with their weights."""
    return choose("set of views (train.tta)", config.train.tta, VIEWS)


def build(config: ConfigDict, data: Splits, *, schedule: Schedule | None = None) -> list[Setup]:
    """Returns the setup of each phase, at least one; they start from the same parameters.

    schedule: instead of that of the config.

    Raises ConfigError for what cannot be trained.
    """
    check_options(config)
    num_classes = len(data.train.class_names)
    model, transform = build_model(config, num_classes=num_classes)
    image = jax.eval_shape(transform, data.train.images[:1])
    if reads.given(config, "model"):
        options = models.read_options(config.model, image, num_classes=num_classes)
        reads.note(config, [f"model.{option}" for option in options])
    configs = phases.of(config)
    for phase in configs.values():
        _check(phase, data)
    initializer = Initializer(model, image, seed=config.seed)
    _check_parameters(config.model, trees.count(initializer.shapes["params"]))
    # All phases have an average if one has, so that their states are alike.
    has_average = any(_averages(phase) for phase in configs.values())
    setups = []
    for name, phase in configs.items():
        built = _build(
            name, phase, data, model, transform, image, initializer, schedule, has_average
        )
        setups.append(built)
    return setups


def _averages(config: ConfigDict) -> bool:
    """Returns whether other weights are validated than those of the last step."""
    return config.train.ema_decay > 0 or optimizers.averages(config.optimizer)


def _build(
    name: str,
    config: ConfigDict,
    data: Splits,
    model: nn.Module,
    transform: Transform,
    image: jax.ShapeDtypeStruct,
    initializer: Initializer,
    schedule: Schedule | None,
    has_average: bool,
) -> Setup:
    """Returns the setup of a phase. transform: of its evaluation. schedule: None for the config's."""
    settings = config.train
    steps_per_epoch = steps_in_epoch(len(data.train), settings.batch_size)
    if schedule is None:
        schedule = schedules.create(
            config.schedule,
            peak=config.optimizer.learning_rate,
            epochs=settings.epochs,
            steps_per_epoch=steps_per_epoch,
        )
    plateau = schedules.plateau(config.schedule, peak=config.optimizer.learning_rate)
    optimizer = optimizers.create(config.optimizer, schedule, has_plateau=plateau is not None)
    train_transform = parse(config.data.transform)
    adaptation = adapt.create(config, model, initializer.shapes["params"], image)
    recipe = Recipe(
        model=model,
        optimizer=optimizer,
        objective=objectives.create(config, model, train_transform, train=data.train),
        adaptation=adaptation,
        ema_decay=settings.ema_decay,
    )
    embed = None
    if _can_cache_features(config, model, adaptation, transform, train_transform, image, data):
        options = {
            "batch_size": settings.eval_batch_size,
            "adaptation": adaptation,
            "winograd": settings.winograd,
            "backend": settings.parallel,
        }
        embed = dispatch.make_predict(model, transform, method="encode", **options)
        train_transform = _Identity()
        recipe = dataclasses.replace(recipe, method="head")
        predict = dispatch.make_predict(
            model, _Identity(), method="head", across_processes=True, **options
        )
    else:
        predict = build_predict(
            config, model, transform, adaptation=adaptation, across_processes=True
        )
    train = dispatch.make_train(
        recipe,
        train_transform,
        steps_per_epoch=steps_per_epoch,
        seed=config.seed,
        winograd=settings.winograd,
        backend=settings.parallel,
    )

    def prepare(variables: Variables) -> Variables:
        return model.prepare(variables, data.train.images, transform)

    def start(variables: Variables) -> TrainState:
        model_state, params = flax.core.pop(variables, "params")
        params = adaptation.add_pairs(params, seed=config.seed)
        trainable, _ = adaptation.split(params)
        opt_state = optimizer.init(trainable)
        return TrainState.create(params, model_state, opt_state, has_average=has_average)

    return Setup(
        name=name,
        config=config,
        steps_per_epoch=steps_per_epoch,
        schedule=schedule,
        train=train,
        predict=predict,
        shapes=jax.eval_shape(start, initializer.shapes),
        initializer=initializer,
        start=start,
        prepare=prepare,
        optimizer=optimizer,
        adaptation=adaptation,
        plateau=plateau,
        early_stopping=settings.early_stopping,
        embed=embed,
        budget=device_budget(config.data, data.nbytes),
    )


class _Identity(Transform):
    """The transform of features, which are taken as they are."""

    def __call__(self, images, keys=None, **_):
        return images


def _can_cache_features(
    config: ConfigDict,
    model: nn.Module,
    adaptation: Adaptation,
    transform: Transform,
    train_transform: Transform,
    image: jax.ShapeDtypeStruct,
    data: Splits,
) -> bool:
    """Returns whether an image's features never change while training, and all fit the budget."""
    if train_transform.random or config.train.tta != "none" or not adaptation.features_frozen:
        return False
    if train_transform.ops != tuple(op for op in transform.ops if not op.random):
        return False  # evaluation sees other images

    num_bytes = num_features(model, image) * 4 * (len(data.train) + len(data.validation))
    if num_bytes > config.adapt.feature_bytes:
        log.info(
            "The features could be computed once, but need %.1f GB, more than "
            "config.adapt.feature_bytes (%.1f GB).",
            num_bytes / 1e9,
            config.adapt.feature_bytes / 1e9,
        )
        return False
    return True


def _check(config: ConfigDict, data: Splits) -> None:
    """Raises ConfigError for what cannot be trained on these data and devices."""
    settings = config.train
    parallel.check_backend(settings.parallel)
    parallel.check_batch_size("train.batch_size", settings.batch_size)
    parallel.check_batch_size("train.eval_batch_size", settings.eval_batch_size)
    if settings.batch_size > len(data.train):
        hint = ""
        if config.get("quick"):
            hint = ", or a larger config.quick"
        raise ConfigError(
            f"train.batch_size is {settings.batch_size}, but only {len(data.train)} images are left "
            f"for training: give at most that{hint}."
        )
    num_steps = settings.epochs * steps_in_epoch(len(data.train), settings.batch_size)
    if num_steps >= 2**31:
        raise ConfigError(
            f"train.epochs is {settings.epochs}, {num_steps:,} steps: give fewer, below 2**31 steps."
        )
    num_classes = len(data.train.class_names)
    if settings.monitor not in metrics.names(num_classes):
        raise ConfigError(
            f"train.monitor is {settings.monitor!r}, which says nothing about {num_classes} classes: "
            f"give one of {', '.join(metrics.names(num_classes))}."
        )
    budget = device_budget(config.data, data.nbytes)
    if budget is not None:
        for size in (settings.batch_size, settings.eval_batch_size):
            steps_in_window(data.train.images.shape[1:], size, budget)  # raises if none fits


def _check_parameters(config: ConfigDict, count: int) -> None:
    most = config.get("max_parameters", 0)
    if 0 < most < count:
        raise ConfigError(
            f"The model {config.name!r} has {count:,} trainable parameters, more than the {most:,} "
            "that config.model.max_parameters allows: make it smaller, or the limit larger (0 for "
            "none)."
        )
