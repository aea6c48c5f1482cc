"""Which parameters train: a split of the parameters by path, and low-rank pairs beside frozen kernels.

The gradient is taken with respect to the trainable part alone, so that nothing is computed backwards
below it, and the optimizer keeps nothing of the rest. A module none of whose parameters train runs as
in evaluation (BatchNorm on its stored statistics, no dropout) unless `adapt.frozen_statistics` is
"update".
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

# Whether modules none of whose parameters train run as in evaluation.
STATISTICS = {"stored": True, "update": False}


@dataclasses.dataclass(frozen=True)
class Adaptation:
    """How a config's `adapt` trains a model.

    lora: low-rank pairs, if any, and targets: the paths of the kernels that have them. trainable:
    the paths that train, or None if all do. paths: of all parameters, pairs included.
    feature_paths: of those that the model's `features` reads. stored: an entry of STATISTICS.
    """

    lora: LoRA | None = None
    targets: tuple[str, ...] = ()
    trainable: frozenset[str] | None = None
    paths: frozenset[str] = frozenset()
    feature_paths: frozenset[str] = frozenset()
    stored: bool = True

    def split(self, params: Any) -> tuple[Any, Any]:
        """Returns the parameters that train, and the others; `trees.join` puts them together."""

        def trains(path: str) -> bool:
            return self.trainable is None or path in self.trainable

        return trees.split(params, trains)

    def add_pairs(self, params: Any, *, seed: int) -> Any:
        """Returns a model's parameters with new low-rank pairs, if there are any."""
        if self.lora is None:
            return params
        return self.lora.add(params, self.targets, jax.random.key(seed))

    def merge(self, params: Any) -> Any:
        """Returns the parameters that the model is applied to."""
        if self.lora is None:
            return params
        return self.lora.merge(params)

    @functools.cached_property
    def _trained(self) -> frozenset[str]:
        """Paths of the model's parameters that train; a kernel with a low-rank pair does."""
        paths = self.paths if self.trainable is None else self.trainable
        pair = re.compile(rf"^{KEY}/(.*)/(?:down|up)$")
        return frozenset(pair.sub(r"\1", path) for path in paths)

    @property
    def features_frozen(self) -> bool:
        """Whether an image's features never change while training."""
        if self.trainable is None or not self.stored:
            return False
        return self._trained.isdisjoint(self.feature_paths)

    def apply(self, model: nn.Module, variables: Any, x: Any, **options) -> Any:
        """Calls `model.apply` with frozen modules run as in evaluation."""
        if self.trainable is None or not self.stored:
            return model.apply(variables, x, **options)
        with nn.intercept_methods(self._evaluate_frozen):
            return model.apply(variables, x, **options)

    def _evaluate_frozen(
        self, call: Callable, args: tuple, options: dict[str, Any], context
    ) -> Any:
        module = "/".join(context.module.path)
        if options.get("train") and self._is_frozen(module, context.method_name):
            options = {**options, "train": False}
        return call(*args, **options)

    def _is_frozen(self, module: str, method: str) -> bool:
        """Returns whether a module has parameters, and none of them train."""
        if not module:  # the model itself
            return method == "features" and self.features_frozen
        prefix = f"{module}/"
        has_parameters = any(path.startswith(prefix) for path in self.paths)
        return has_parameters and not any(path.startswith(prefix) for path in self._trained)


EVERYTHING = Adaptation()


def create(config: ConfigDict, model: nn.Module, params: Any, x: Any) -> Adaptation:
    """Returns the adaptation of `config.adapt`.

    params: of the model, or their shapes. x: a batch for it, or its shape. Raises ConfigError for a
    pattern that is found in no path, and for layers that cannot be counted.
    """
    settings = config.adapt
    key = jax.random.key(0)
    lora = None
    targets: list[str] = []
    model_paths = list(trees.flatten(params))
    pairs: list[str] = []
    if settings.lora.targets:
        lora = LoRA.from_config(config)
        kernels = [path for path in model_paths if path.endswith("/kernel")]
        targets = trees.matching("adapt.lora.targets", settings.lora.targets, kernels)
        with_pairs = jax.eval_shape(lambda params: lora.add(params, targets, key), params)
        pairs = [path for path in trees.flatten(with_pairs) if path.startswith(f"{KEY}/")]
    if not settings.trainable and not lora and not settings.last_layers:
        return EVERYTHING
    trainable = trees.matching("adapt.trainable", settings.trainable, model_paths) + pairs
    if settings.last_layers:
        trainable += _last_layers(settings.last_layers, config.model, model_paths)
    features = jax.eval_shape(lambda x: model.init(key, x, method="encode"), x)
    return Adaptation(
        lora=lora,
        targets=tuple(targets),
        trainable=frozenset(trainable),
        paths=frozenset(model_paths + pairs),
        feature_paths=frozenset(trees.flatten(features.get("params", {}))),
        stored=choose("adapt.frozen_statistics", settings.frozen_statistics, STATISTICS),
    )


def _last_layers(count: int, config: ConfigDict, paths: list[str]) -> list[str]:
    """Returns the paths of the parameters in the last `count` layers of the backbone.

    Layers are counted as in Keras: those without parameters (activations, sums, reshapes) count.
    Raises ConfigError for a model whose layers in Keras are not known.
    """
    is_hybrid = config.name == "hybrid"
    backbones = list(config.backbones) if is_hybrid else [config.name]
    keys = KEY_MAPS.get(backbones[0])
    if len(backbones) > 1 or keys is None or not keys.layers:
        countable = ", ".join(name for name, keys in KEY_MAPS.items() if keys.layers)
        raise ConfigError(
            f"adapt.last_layers counts layers as Keras does, which is possible for {countable}; this "
            f"model is {', '.join(backbones)}: say in adapt.trainable what trains."
        )
    if not 0 < count <= len(keys.layers):
        raise ConfigError(
            f"adapt.last_layers is {count}: Keras' {backbones[0]} has {len(keys.layers)} layers."
        )
    last = keys.layers[-count:]
    prefix = f"{backbones[0]}/" if is_hybrid else ""
    chosen = []
    for path in paths:
        if path.startswith(prefix):
            name, *_ = keys.name_of(f"params/{path.removeprefix(prefix)}")
            if name.partition("/")[0] in last:
                chosen.append(path)
    return chosen
