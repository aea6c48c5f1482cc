"""What trains of a model: a split of its parameters by path, and low-rank pairs beside frozen kernels.

The gradient is taken with respect to the trainable part alone, so that nothing is computed backwards below it, and the
optimizer keeps nothing of the rest. A module of which nothing trains runs as in evaluation (BatchNorm on its stored
statistics, no dropout) unless `adapt.frozen_statistics` is "update".
"""

import dataclasses
import functools
import re
from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn
from ml_collections import ConfigDict

from imgcls_jax import trees
from imgcls_jax.errors import ConfigError, choose
from imgcls_jax.models.lora import KEY, LoRA
from imgcls_jax.pretrained import KEY_MAPS

STATISTICS = {
    "stored": True,
    "update": False,
}  # whether modules of which nothing trains run as in evaluation


@dataclasses.dataclass(frozen=True)
class Adaptation:
    """How a config's `adapt` trains a model. `trainable` has the paths that train, or is None where all do."""

    lora: LoRA | None = None
    trainable: frozenset[str] | None = None
    paths: frozenset[str] = frozenset()  # of all parameters, pairs included
    feature_paths: frozenset[str] = frozenset()  # of what the model's `features` reads
    stored: bool = True

    def split(self, params: Any) -> tuple[Any, Any]:
        """The parameters that train, and the others; `trees.join` puts them together."""
        return trees.split(params, lambda path: self.trainable is None or path in self.trainable)

    def merge(self, params: Any) -> Any:
        """The parameters that the model is applied to."""
        return self.lora.merge(params) if self.lora else params

    @functools.cached_property
    def _trained(self) -> frozenset[str]:
        """Paths of the model's own that train, a kernel with a pair among them."""
        paths = self.paths if self.trainable is None else self.trainable
        pair = re.compile(rf"^{KEY}/(.*)/(?:down|up)$")
        return frozenset(pair.sub(r"\1", path) for path in paths)

    @property
    def features_frozen(self) -> bool:
        """Whether `features` gives the same for an image all through training."""
        return self.trainable is not None and self.stored and not self._trained & self.feature_paths

    def apply(self, model: nn.Module, variables: Any, x: Any, **options) -> Any:
        """`model.apply`, with what is frozen run as in evaluation."""
        if self.trainable is None or not self.stored:
            return model.apply(variables, x, **options)
        with nn.intercept_methods(self._evaluate_frozen):
            return model.apply(variables, x, **options)

    def _evaluate_frozen(
        self, call: Callable, args: tuple, options: dict[str, Any], context
    ) -> Any:
        if options.get("train") and self._frozen(
            "/".join(context.module.path), context.method_name
        ):
            options = {**options, "train": False}
        return call(*args, **options)

    def _frozen(self, module: str, method: str) -> bool:
        if not module:  # the model itself
            return method == "features" and self.features_frozen
        below = f"{module}/"
        has = any(path.startswith(below) for path in self.paths)
        return has and not any(path.startswith(below) for path in self._trained)


EVERYTHING = Adaptation()


def create(
    config: ConfigDict, model: nn.Module, params: Any, x: Any, *, seed: int
) -> tuple[Adaptation, Any]:
    """The adaptation of `config.adapt` to a model with these parameters, and the parameters with their low-rank pairs.

    x: a batch for the model. Raises ConfigError for a pattern that is found in no path, and for what cannot be.
    """
    settings = config.get("adapt")
    if not settings:  # a run from before there was one
        return EVERYTHING, params
    lora = None
    if settings.lora.targets:
        lora = LoRA.from_config(config)
        kernels = [path for path in trees.flatten(params) if path.endswith("/kernel")]
        targets = trees.matching("adapt.lora.targets", settings.lora.targets, kernels)
        params = lora.add(params, targets, jax.random.key(seed))
    paths = list(trees.flatten(params))
    pairs = [path for path in paths if path.startswith(f"{KEY}/")]
    last = settings.get("last_layers", 0)
    if not settings.trainable and not lora and not last:
        return EVERYTHING, params
    stored = choose("adapt.frozen_statistics", settings.frozen_statistics, STATISTICS)
    own = [path for path in paths if path not in set(pairs)]
    named = trees.matching("adapt.trainable", settings.trainable, own)
    trainable = frozenset(
        [*named, *pairs, *(_last_layers(last, config.model, own) if last else ())]
    )
    key = jax.random.key(0)
    features = jax.eval_shape(lambda x: model.init(key, x, method="encode"), x)
    feature_paths = frozenset(trees.flatten(features.get("params", {})))
    return Adaptation(lora, trainable, frozenset(paths), feature_paths, stored), params


def _last_layers(count: int, config: ConfigDict, paths: list[str]) -> list[str]:
    """The paths of what lies in the last `count` layers of the backbone as Keras counts them, those without parameters
    (activations, sums, reshapes) among them. Raises ConfigError where that is not known.
    """
    backbones = list(config.backbones) if config.name == "hybrid" else [config.name]
    keys = KEY_MAPS.get(backbones[0])
    layers = keys.layers if keys else ()
    if len(backbones) > 1 or not layers:
        known = ", ".join(name for name, keys in KEY_MAPS.items() if keys.layers)
        raise ConfigError(
            f"adapt.last_layers counts layers as Keras does, which is known of {known}; this model is "
            f"{', '.join(backbones)}: say in adapt.trainable what trains."
        )
    if not 0 < count <= len(layers):
        raise ConfigError(
            f"adapt.last_layers is {count}: Keras' {backbones[0]} has {len(layers)} layers."
        )
    prefix = f"{backbones[0]}/" if config.name == "hybrid" else ""

    def layer(path: str) -> str:
        return keys.name_of(f"params/{path.removeprefix(prefix)}")[0].partition("/")[0]

    return [path for path in paths if path.startswith(prefix) and layer(path) in layers[-count:]]
