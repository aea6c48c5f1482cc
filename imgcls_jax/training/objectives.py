"""What a step learns from, as `config.objective` says it by `name` and options:

{}                                    the labels, with train.label_smoothing
{"name": "distill", "teacher": "runs/NAME", "temperature": 4.0, "weight": 0.9}
                                      the labels, and the probabilities of a run or an ensemble on the same images
{"name": "simclr", "temperature": 0.5}
                                      two views of each image, no labels; the model is `simclr`
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from ml_collections import ConfigDict

from imgcls_jax.data.transforms import Transform
from imgcls_jax.errors import ConfigError, choose
from imgcls_jax.training.losses import cross_entropy, divergence, nt_xent

Apply = Callable[
    ..., tuple[Any, Any]
]  # (inputs, method=...) -> what the model's method gives, and its new state
Target = Mapping[str, jax.Array]  # as of Dataset.targets


@dataclasses.dataclass(frozen=True)
class Labels:
    """Cross entropy; called with the transformed batch, and its targets with the share of the loss that each has.

    Gives the losses [B], the logits [B, K], and the model's new state.
    """

    label_smoothing: float = 0.0
    views = 1  # draws of each image that a step takes

    def __call__(
        self,
        apply: Apply,
        views: Sequence[jax.Array],
        targets: Sequence[tuple[Target, Any]],
        method: str,
    ) -> tuple[jax.Array, jax.Array, Any]:
        logits, model_state = apply(views[0], method=method)
        return (
            sum(share * self.losses(logits, target) for target, share in targets),
            logits,
            model_state,
        )

    def losses(self, logits: jax.Array, target: Target) -> jax.Array:
        return cross_entropy(logits, target["labels"], smoothing=self.label_smoothing)


@dataclasses.dataclass(frozen=True)
class Distill(Labels):
    """Distillation (Hinton et al., 2015, arXiv:1503.02531): `weight` of the loss is the teacher's, both softened."""

    temperature: float = 4.0
    weight: float = 0.9

    def losses(self, logits, target):
        taught = divergence(target["teacher"], logits, temperature=self.temperature)
        return self.weight * taught + (1 - self.weight) * super().losses(logits, target)


@dataclasses.dataclass(frozen=True)
class SimCLR(Labels):
    """SimCLR (Chen et al., 2020, arXiv:2002.05709): the projections of an image's two views shall be alike.

    The labels train the classifier alone, on features through which no gradient passes: a linear probe on the way.
    """

    temperature: float = 0.5
    views = 2

    def __call__(self, apply, views, targets, method):
        ((target, _),) = targets
        encoded, model_state = apply(jnp.concatenate(views), method="encode")
        projected, _ = apply(encoded, method="project")
        logits, _ = apply(lax.stop_gradient(encoded[: len(views[0])]), method="head")
        alike = nt_xent(*jnp.split(projected, 2), temperature=self.temperature)
        return alike + self.losses(logits, target), logits, model_state


LABELS = Labels()
OBJECTIVES = {"labels": Labels, "distill": Distill, "simclr": SimCLR}


def defaults(name: str) -> dict[str, Any]:
    """The options of the objective of that name, with their defaults."""
    fields = {field.name: field.default for field in dataclasses.fields(OBJECTIVES[name])}
    return {"teacher": "", **{key: fields[key] for key in fields if key != "label_smoothing"}}


def create(
    config: ConfigDict, model: nn.Module | None = None, transform: Transform | None = None
) -> Labels:
    """The objective of a run's config. Raises ConfigError for options that cannot be, or not with these."""
    options = dict(config.get("objective") or {})
    objective = choose(
        "objective (config.objective.name)", options.pop("name", "labels"), OBJECTIVES
    )
    teacher = options.pop("teacher", "")
    known = {field.name for field in dataclasses.fields(objective)} - {"label_smoothing"}
    if unknown := set(options) - known:
        accepted = (
            ", ".join(sorted(known | ({"teacher"} if objective is Distill else set()))) or "none"
        )
        raise ConfigError(
            f"config.objective has no option {min(unknown)!r} for {objective.__name__}: it has {accepted}."
        )
    if (objective is Distill) != bool(teacher):
        raise ConfigError(
            'config.objective.teacher and the objective "distill" belong together: give the folder of a run or of an '
            "ensemble, as in --config.objective.teacher=runs/NAME."
        )
    if objective is SimCLR and (
        (transform and transform.mix) or (model and not hasattr(model, "project"))
    ):
        raise ConfigError(
            'The objective "simclr" needs a projection and no mixing of images: --config.model.name=simclr with '
            "--config.model.backbone=NAME, and a data.transform without mixup and cutmix."
        )
    return objective(label_smoothing=config.train.label_smoothing, **options)
