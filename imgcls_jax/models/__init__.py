"""Every model by its name, and how a config becomes one."""

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

# A module, or a partial of one that fixes what makes the variant.
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
    **resnet.VARIANTS,
    **googlenet.VARIANTS,
    **efficientnet.VARIANTS,
    **convnext.VARIANTS,
}


def options(name: str) -> dict[str, Any]:
    """The options of the model of that name, with their types. Raises ConfigError where there is no such model."""
    return {field.name: field.type for field in _fields(name)}


def defaults(name: str) -> dict[str, Any]:
    """The same with their defaults."""
    return {field.name: field.default for field in _fields(name)}


def _fields(name: str) -> list[dataclasses.Field]:
    constructor, fixed = choose("model", name, MODELS), {"num_classes", "dtype", "parent", "name"}
    if isinstance(constructor, functools.partial):
        constructor, fixed = constructor.func, fixed | set(constructor.keywords)
    return [field for field in dataclasses.fields(constructor) if field.name not in fixed]


def architecture(config: ConfigDict) -> dict[str, Any]:
    """The name and the options of `config.model` as plain values.

    `pretrained` says what the parameters start from, `max_parameters` how many there may be: these are no options.
    """
    return {
        key: value
        for key, value in config.to_dict().items()
        if key not in ("pretrained", "max_parameters")
    }


def read_options(config: ConfigDict, image: jax.ShapeDtypeStruct, *, num_classes: int) -> set[str]:
    """Those of the options of `config.model` that the model's own code asks for when it is built for such an image.

    As an example, `se_ratio` is asked for only where there is a squeeze-and-excitation block.
    """
    read, here = set(), str(Path(__file__).parent)
    constructor, given = MODELS[config.name], architecture(config)
    names, fixed = {*options(config.name)}, {}
    if isinstance(constructor, functools.partial):
        constructor, fixed = constructor.func, constructor.keywords
    del given["name"]

    def ask(module, name):
        if name in names and sys._getframe(1).f_code.co_filename.startswith(
            here
        ):  # not Flax, which asks for all
            read.add(name)
        return constructor.__getattribute__(module, name)

    watched = type(constructor.__name__, (constructor,), {})
    watched.__getattribute__ = ask  # afterwards: Flax wraps what a class is made with
    model = watched(num_classes=num_classes, **fixed, **given)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
    jax.eval_shape(lambda x: model.init_with_output(keys, x, train=True)[0], image)
    return read


def create(config: ConfigDict, *, num_classes: int, dtype: jnp.dtype = jnp.float32) -> nn.Module:
    """The model of `config.model`: its `name` picks the constructor, its options (`architecture`) are that model's."""
    known, given = options(config.name), architecture(config)
    del given["name"]
    for key in given:
        if key not in known:
            raise ConfigError(
                f"The model {config.name!r} has no option {key!r} (config.model.{key}). "
                f"Its options: {', '.join(sorted(known)) or 'none'}."
            )
    return MODELS[config.name](num_classes=num_classes, dtype=dtype, **given)
