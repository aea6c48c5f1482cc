"""Every model by its name, and how a config becomes one."""

import dataclasses

import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from imgcls_jax.errors import ConfigError, choose
from imgcls_jax.models.attention import SelfAttention
from imgcls_jax.models.cnn import CNN
from imgcls_jax.models.lstm import LSTMClassifier

MODELS: dict[str, type[nn.Module]] = {
    "cnn": CNN,
    "lstm": LSTMClassifier,
    "attention": SelfAttention,
}


def create(config: ConfigDict, *, num_classes: int, dtype: jnp.dtype = jnp.float32) -> nn.Module:
    """The model of `config.model`: its `name` picks the constructor, its other keys are that model's options."""
    constructor = choose("model", config.name, MODELS)
    options = {key: value for key, value in config.items() if key != "name"}
    ours = {"num_classes", "dtype", "parent", "name"}
    known = {field.name: field for field in dataclasses.fields(constructor) if field.name not in ours}
    for key in options:
        if key not in known:
            raise ConfigError(
                f"The model {config.name!r} has no option {key!r} (config.model.{key}). "
                f"Its options: {', '.join(sorted(known)) or 'none'}."
            )
    return constructor(num_classes=num_classes, dtype=dtype, **options)
