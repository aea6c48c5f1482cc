"""What a config becomes before the first step: model, transform, optimizer, schedule, compiled steps, first state."""

import dataclasses
import logging
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from ml_collections import ConfigDict

from imgcls_jax import models, pretrained, trees
from imgcls_jax.config import reads
from imgcls_jax.data import Splits, device_budget
from imgcls_jax.data.batches import steps_in_epoch
from imgcls_jax.data.dataset import Dataset
from imgcls_jax.data.streaming import steps_in_window
from imgcls_jax.data.transforms import Transform, parse
from imgcls_jax.data.views import VIEWS, View
from imgcls_jax.errors import ConfigError, choose
from imgcls_jax.models import lora
from imgcls_jax.training import adapt, features, objectives, optimizers, phases, schedules, steps
from imgcls_jax.training.adapt import EVERYTHING, Adaptation
from imgcls_jax.training.checks import check as check_options
from imgcls_jax.training.schedules import Plateau, Schedule
from imgcls_jax.training.state import TrainState, start_average

log = logging.getLogger(__name__)

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


@dataclasses.dataclass(frozen=True)
class Setup:
    """All that training runs on, or a phase of it; `state` is the initial one, not yet on the devices."""

    name: str  # of the phase, "" where there is but one
    config: ConfigDict  # of the phase
    steps_per_epoch: int
    schedule: Schedule  # by the steps of the phase
    train: steps.TrainSteps
    predict: Callable[..., np.ndarray]
    state: TrainState
    adaptation: Adaptation
    plateau: Plateau | None
    early_stopping: int  # epochs without improvement after which the phase ends; 0 never
    embed: (
        Callable[..., np.ndarray] | None
    )  # where the features are computed once: variables, images -> vectors
    budget: float | None  # bytes of a device for images, where not all fit there

    def begin(self, state: TrainState) -> TrainState:
        """The state with which the phase begins, from that with which the one before ended."""
        own = self.state
        return state.replace(
            opt_state=own.opt_state, rate_scale=own.rate_scale, phase_start=jnp.copy(state.step)
        )

    def place(
        self, state: TrainState, dataset: Dataset
    ) -> tuple[tuple[Any, dict[str, jax.Array]], float]:
        """What `train` and `predict` read of a data set, as of `steps.place`: images or their features, and targets.

        Second, the seconds that the features take to compute, 0 without.
        """
        if self.embed is None:
            return steps.place(dataset, budget=self.budget), 0.0
        vectors, seconds = features.compute(
            self.config, self.embed, variables(state), self.adaptation.feature_paths, dataset
        )
        return steps.replicate((vectors, dataset.targets)), seconds


def variables(state: TrainState) -> dict[str, Any]:
    """What `predict` takes of a state: the model that is kept."""
    return {"params": state.model["params"], **state.model["model_state"]}


def build_model(config: ConfigDict, *, num_classes: int) -> tuple[nn.Module, Transform]:
    """The model of a run's config and the transform of its images."""
    dtype = choose("train.precision", config.train.precision, DTYPES)
    return models.create(config.model, num_classes=num_classes, dtype=dtype), parse(
        config.data.transform
    )


def build_predict(
    config: ConfigDict,
    model: nn.Module,
    transform: Transform,
    *,
    adaptation: Adaptation = EVERYTHING,
    together: bool = False,
) -> Callable[..., np.ndarray]:
    """As `steps.make_predict`, with the views of the config."""
    options = {
        "batch_size": config.train.eval_batch_size,
        "views": views(config),
        "adaptation": adaptation,
    }
    winograd = config.train.get("winograd", True)
    return steps.make_predict(model, transform, **options, winograd=winograd, together=together)


def views(config: ConfigDict) -> Sequence[tuple[float, View]]:
    """The views of an image over which evaluation averages, with their weights."""
    return choose("set of views (train.views)", config.train.get("views", "none"), VIEWS)


def build(config: ConfigDict, data: Splits) -> list[Setup]:
    """The setup of each phase, at least one; they start from the same parameters. Raises ConfigError for what cannot be
    trained."""
    check_options(config)
    model, transform = build_model(config, num_classes=len(data.train.class_names))
    if reads.given(config, "model"):
        image = jax.eval_shape(transform, data.train.images[:1])
        read = models.read_options(config.model, image, num_classes=len(data.train.class_names))
        reads.note(config, [f"model.{option}" for option in read])
    configs = phases.of(config)
    for phase in configs.values():
        _check(phase, data)
    params, model_state = steps.initialize(model, transform, data.train.images, seed=config.seed)
    _check_parameters(config.model, trees.count(params))
    model_state = model.prepare(model_state, data.train.images, transform)
    return [
        _build(name, phase, data, model, transform, params, model_state)
        for name, phase in configs.items()
    ]


def _build(
    name: str,
    config: ConfigDict,
    data: Splits,
    model: nn.Module,
    transform: Transform,
    params: Any,
    model_state: Any,
) -> Setup:
    """The setup of a phase, whose evaluation is by `transform`."""
    settings, seed = config.train, config.seed
    winograd = settings.get("winograd", True)
    steps_per_epoch = steps_in_epoch(len(data.train), settings.batch_size)
    optimizer = optimizers.create(config.optimizer)
    schedule = schedules.create(
        config.schedule,
        peak=config.optimizer.learning_rate,
        epochs=settings.epochs,
        steps_per_epoch=steps_per_epoch,
    )
    train_transform = parse(config.data.transform)
    image = jax.eval_shape(transform, data.train.images[:1])
    adaptation, params = adapt.create(config, model, params, image, seed=seed)
    embed = None
    same_images = train_transform.ops == tuple(
        op for op in transform.ops if not op.random
    )  # in evaluation as here
    if same_images and _caches_features(config, model, adaptation, train_transform, image, data):
        options = {
            "batch_size": settings.eval_batch_size,
            "adaptation": adaptation,
            "winograd": winograd,
        }
        embed = steps.make_predict(model, transform, method="encode", **options)
        predict = steps.make_predict(model, _AsTheyAre(), method="head", together=True, **options)
    else:
        predict = build_predict(config, model, transform, adaptation=adaptation, together=True)
    train = steps.make_train(
        model,
        _AsTheyAre() if embed else train_transform,
        optimizer,
        schedule,
        steps_per_epoch=steps_per_epoch,
        objective=objectives.create(config, model, train_transform),
        average=settings.average,
        adaptation=adaptation,
        method="head" if embed else "__call__",
        winograd=winograd,
        seed=seed,
    )
    opt_state = optimizer.init(adaptation.split(params)[0])
    state = TrainState.start(params, model_state, opt_state, average=bool(settings.average))
    budget = device_budget(config.data, data.nbytes)
    plateau = Plateau.of(config.schedule, peak=config.optimizer.learning_rate)
    return Setup(
        *(name, config, steps_per_epoch, schedule, train, predict, state, adaptation),
        plateau=plateau,
        early_stopping=settings.early_stopping,
        embed=embed,
        budget=budget,
    )


def with_pretrained(
    state: TrainState, config: ConfigDict, *, class_names: Sequence[str]
) -> TrainState:
    """The initial state with the weights of `config.model.pretrained`; low-rank pairs stay as they are."""
    own, pairs = lora.split(state.params)
    own, model_state = pretrained.initialize(
        config, params=own, model_state=state.model_state, class_names=class_names
    )
    params = {**own, **pairs}
    average = start_average(params, model_state) if state.average else None
    return state.replace(params=params, model_state=model_state, average=average)


class _AsTheyAre(Transform):
    """The transform of features, which stands in the place of the images' one."""

    def __call__(self, images, keys=None, **_):
        return images


def _caches_features(
    config: ConfigDict,
    model: nn.Module,
    adaptation: Adaptation,
    transform: Transform,
    image: jax.ShapeDtypeStruct,
    data: Splits,
) -> bool:
    """Whether the features of an image are the same all through training, and all of them fit the budget."""
    if transform.random or config.train.views != "none" or not adaptation.features_frozen:
        return False
    vector = jax.eval_shape(
        lambda x: model.init_with_output(jax.random.key(0), x, method="encode")[0], image
    )
    needed = vector.size * 4 * (len(data.train) + len(data.validation))
    if needed > config.adapt.feature_cache:
        log.info(
            "The features could be computed once, but need %.1f GB, more than config.adapt.feature_cache (%.1f GB).",
            needed / 1e9,
            config.adapt.feature_cache / 1e9,
        )
        return False
    return True


def _check(config: ConfigDict, data: Splits) -> None:
    settings = config.train
    steps.check_batch_size("train.batch_size", settings.batch_size)
    steps.check_batch_size("train.eval_batch_size", settings.eval_batch_size)
    if settings.batch_size > len(data.train):
        raise ConfigError(
            f"train.batch_size is {settings.batch_size}, but only {len(data.train)} images are left for training: give "
            "at most that."
        )
    count = settings.epochs * steps_in_epoch(len(data.train), settings.batch_size)
    if count >= 2**31:
        raise ConfigError(
            f"train.epochs is {settings.epochs}, {count:,} steps: give fewer, below 2**31 steps."
        )
    if (budget := device_budget(config.data, data.nbytes)) is not None:
        for size in (settings.batch_size, settings.eval_batch_size):
            steps_in_window(
                data.train.images.shape[1:], size, budget
            )  # an error where not even one fits


def _check_parameters(config: ConfigDict, count: int) -> None:
    most = config.get("max_parameters", 0)
    if 0 < most < count:
        raise ConfigError(
            f"The model {config.name!r} has {count:,} trainable parameters, more than the {most:,} that "
            "config.model.max_parameters allows: make it smaller, or the limit larger (0 for none)."
        )
