"""What a step learns from, as `config.objective` says it by `name` and options:

{}                                    the labels, by train.label_smoothing, train.class_weights and so on
{"name": "distill", "teacher": "runs/NAME", "temperature": 4.0, "weight": 0.9}
                                      the labels, and the probabilities of a run or an ensemble on the same images
{"name": "simclr", "temperature": 0.5}
                                      two views of each image, no labels; the model is `simclr`
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from ml_collections import ConfigDict

from imgcls_jax.data.dataset import Dataset
from imgcls_jax.data.transforms import Transform
from imgcls_jax.errors import ConfigError, choose
from imgcls_jax.training import balance
from imgcls_jax.training.inputs import Batch, Target
from imgcls_jax.training.losses import LabelLoss, divergence, nt_xent

# apply(inputs, method=...) -> outputs of the model's method, and its new state
Apply = Callable[..., tuple[Any, Any]]


@dataclasses.dataclass(frozen=True)
class Labels:
    """The loss of the labels.

    `objective(apply, batch, method)` returns the losses [B], the logits [B, K], and the model's new
    state. label_loss: of logits and labels. num_views: how many draws of each image a step takes.
    """

    label_loss: LabelLoss = LabelLoss()
    num_views = 1

    def __call__(self, apply: Apply, batch: Batch, method: str) -> tuple[jax.Array, jax.Array, Any]:
        logits, model_state = apply(batch.views[0], method=method)
        losses = 0.0
        for target, share in batch.targets:
            losses = losses + share * self.losses(logits, target)
        return losses, logits, model_state

    def losses(self, logits: jax.Array, target: Target) -> jax.Array:
        """Returns the loss [B] of each example, without mixing."""
        return self.label_loss(logits, target["labels"])


@dataclasses.dataclass(frozen=True)
class Distill(Labels):
    """Distillation (Hinton et al., 2015, arXiv:1503.02531).

    weight: the teacher's share of the loss. temperature: by which both sides' logits are divided.
    """

    temperature: float = 4.0
    weight: float = 0.9

    def losses(self, logits, target):
        soft = divergence(target["teacher"], logits, temperature=self.temperature)
        hard = super().losses(logits, target)
        return self.weight * soft + (1 - self.weight) * hard


@dataclasses.dataclass(frozen=True)
class SimCLR(Labels):
    """SimCLR (Chen et al., 2020, arXiv:2002.05709): two views of an image get similar projections.

    The labels train the classifier alone, on features through which no gradient passes: a linear
    probe while training.
    """

    temperature: float = 0.5
    num_views = 2

    def __call__(self, apply, batch, method):
        ((target, _),) = batch.targets
        features, model_state = apply(jnp.concatenate(batch.views), method="encode")
        projections, _ = apply(features, method="project")
        first_view = lax.stop_gradient(features[: len(batch.views[0])])
        logits, _ = apply(first_view, method="head")
        contrastive = nt_xent(*jnp.split(projections, 2), temperature=self.temperature)
        return contrastive + self.losses(logits, target), logits, model_state


LABELS = Labels()
OBJECTIVES = {"labels": Labels, "distill": Distill, "simclr": SimCLR}


def defaults(name: str) -> dict[str, Any]:
    """Returns the options of the objective of that name, with their defaults."""
    options = {"teacher": ""}
    for field in dataclasses.fields(OBJECTIVES[name]):
        if field.name != "label_loss":
            options[field.name] = field.default
    return options


def create(
    config: ConfigDict,
    model: nn.Module | None = None,
    transform: Transform | None = None,
    *,
    train: Dataset | None = None,
) -> Labels:
    """Returns the objective of a run's config.

    Raises ConfigError for options that it does not have, or that do not go with the model, the
    transform or the classes of the training set, as far as they are given.
    """
    options = dict(config.get("objective") or {})
    name = options.pop("name", "labels")
    objective = choose("objective (config.objective.name)", name, OBJECTIVES)
    teacher = options.pop("teacher", "")
    _check_names(objective, options)
    if (objective is Distill) != bool(teacher):
        raise ConfigError(
            'config.objective.teacher and the objective "distill" belong together: give the folder of '
            "a run or of an ensemble, as in --config.objective.teacher=runs/NAME."
        )
    if objective is SimCLR:
        is_mixed = transform is not None and transform.mix is not None
        has_projection = model is None or hasattr(model, "project")
        if is_mixed or not has_projection:
            raise ConfigError(
                'The objective "simclr" needs a projection and no mixing of images: '
                "--config.model.name=simclr with --config.model.backbone=NAME, and a data.transform "
                "without mixup and cutmix."
            )
    return objective(label_loss=balance.label_loss(config, train), **options)


def _check_names(objective: type[Labels], options: dict[str, Any]) -> None:
    """Raises ConfigError for an option that the objective does not have."""
    names = {field.name for field in dataclasses.fields(objective)} - {"label_loss"}
    unknown = sorted(set(options) - names)
    if not unknown:
        return
    if objective is Distill:
        names.add("teacher")
    accepted = ", ".join(sorted(names)) or "none"
    raise ConfigError(
        f"config.objective has no option {unknown[0]!r} for {objective.__name__}: it has {accepted}."
    )
