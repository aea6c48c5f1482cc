"""Every model by its name, its options, and how a config becomes a model."""

import dataclasses
import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from imgcls_jax.errors import ConfigError, choose
from imgcls_jax.models import convnext, efficientnet, googlenet, resnet
from imgcls_jax.models.attention import SelfAttention
from imgcls_jax.models.cifar_resnet import ResNet20, SEResNet
from imgcls_jax.models.cnn import CNN
from imgcls_jax.models.fast_cnn import FastCNN
from imgcls_jax.models.hybrid import Hybrid
from imgcls_jax.models.lstm import LSTMClassifier
from imgcls_jax.models.simclr import SimCLR
from imgcls_jax.models.vgg import VGG

# A module, or a partial of one that fixes what makes the variant. The other fields of the module
# are its options.
MODELS: dict[str, Callable[..., nn.Module]] = {
    "cnn": CNN,
    "lstm": LSTMClassifier,
    "attention": SelfAttention,
    "vgg": VGG,
    "fast_cnn": FastCNN,
    "hybrid": Hybrid,
    "resnet20": ResNet20,
    "se_resnet": SEResNet,
    "simclr": SimCLR,
    **resnet.VARIANTS,  # resnet18, resnet50, resnet50_keras
    **googlenet.VARIANTS,  # googlenet
    **efficientnet.VARIANTS,  # efficientnet_b0, efficientnetv2_b0, efficientnet_lite0
    **convnext.VARIANTS,  # convnext_tiny
}

MODELS_FOLDER = Path(__file__).parent
NO_OPTIONS = {"num_classes", "dtype", "parent", "name"}  # fields that `create`, or Flax, sets


def create(config: ConfigDict, *, num_classes: int, dtype: jnp.dtype = jnp.float32) -> nn.Module:
    """Returns the model of `config.model`, with its options.

    Raises ConfigError for an option that the model does not have.
    """
    name = config.name
    accepted = options(name)
    values = architecture(config)
    del values["name"]
    for option in values:
        if option not in accepted:
            raise ConfigError(
                f"The model {name!r} has no option {option!r} (config.model.{option}). "
                f"Its options: {', '.join(sorted(accepted)) or 'none'}."
            )
    return MODELS[name](num_classes=num_classes, dtype=dtype, **values)


def architecture(config: ConfigDict) -> dict[str, Any]:
    """Returns the name and the options of `config.model` as plain values.

    `pretrained` and `max_parameters` are no options: they say where training starts, and what size
    is allowed.
    """
    values = config.to_dict()
    values.pop("pretrained", None)
    values.pop("max_parameters", None)
    return values


def options(name: str) -> dict[str, Any]:
    """Returns the type of each option of a model. Raises ConfigError for an unknown model."""
    return {field.name: field.type for field in _option_fields(name)}


def defaults(name: str) -> dict[str, Any]:
    """Returns the default of each option of a model. Raises ConfigError for an unknown model."""
    return {field.name: field.default for field in _option_fields(name)}


def _option_fields(name: str) -> list[dataclasses.Field]:
    module_class, fixed = _module_class(choose("model", name, MODELS))
    fields = dataclasses.fields(module_class)
    return [field for field in fields if field.name not in NO_OPTIONS and field.name not in fixed]


def _module_class(constructor: Callable[..., nn.Module]) -> tuple[type[nn.Module], dict[str, Any]]:
    """The class of an entry of MODELS, and the fields that the entry fixes."""
    if isinstance(constructor, functools.partial):
        return constructor.func, constructor.keywords
    return constructor, {}


def read_options(config: ConfigDict, image: jax.ShapeDtypeStruct, *, num_classes: int) -> set[str]:
    """Returns the options of `config.model` that the model reads when built for this image.

    For example, `se_ratio` is read only where there is a squeeze-and-excitation block.
    """
    values = architecture(config)
    del values["name"]
    module_class, fixed = _module_class(MODELS[config.name])
    option_names = set(options(config.name))
    read = set()

    def record(module, attribute):
        reader = Path(sys._getframe(1).f_code.co_filename)
        # Flax reads every field, so that only the files of this folder count.
        if attribute in option_names and reader.parent == MODELS_FOLDER:
            read.add(attribute)
        return module_class.__getattribute__(module, attribute)

    recording_class = type(module_class.__name__, (module_class,), {})
    # Not in the line above: Flax would wrap it as one of the module's methods.
    recording_class.__getattribute__ = record
    model = recording_class(num_classes=num_classes, **fixed, **values)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
    jax.eval_shape(lambda x: model.init_with_output(keys, x, train=True)[0], image)
    return read
