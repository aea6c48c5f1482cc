"""Weights of any source as one safetensors file, and as files that PyTorch and Keras read."""

import dataclasses
import os
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from imgcls_jax import models, pretrained, trees
from imgcls_jax.errors import ConfigError, DataError
from imgcls_jax.pretrained import formats, keras_format, safetensors_format, torch_format
from imgcls_jax.pretrained.catalog import key_map
from imgcls_jax.pretrained.naming import KeyMap
from imgcls_jax.pretrained.port import unport
from imgcls_jax.run.folder import RunFolder

IMAGENET_CLASSES = 1000
SUFFIXES = {"torch": (".pth", ".pt", ".safetensors"), "keras": (".h5", ".safetensors")}


@dataclasses.dataclass(frozen=True)
class Loaded:
    """Variables, and config.model of the model that they are of."""

    model: dict[str, Any]
    variables: dict[str, Any]

    @property
    def parameters(self) -> int:
        return trees.count(self.variables["params"])


def load(source: str, model: str | None = None, *, cache: str | None = None) -> Loaded:
    """Returns the variables of a source, with its number of classes.

    model: the model's name, if the source does not know it.
    Raises ConfigError if the model is not known, and otherwise as `pretrained.load` does.
    """
    config = {"name": model} if model else _model_config(source)
    if config is None:
        raise ConfigError(
            f"{source} does not say which model it is of: give --model, "
            f"one of {', '.join(models.MODELS)}."
        )
    name = config["name"]
    pretrained.check_model(source, name)
    names = key_map(name)
    arrays = pretrained.read(source, model=name, cache=cache)
    expected = _shapes(config, num_classes=IMAGENET_CLASSES)
    num_classes = _count_classes(arrays, names, expected)
    if num_classes not in (None, IMAGENET_CLASSES):
        expected = _shapes(config, num_classes=num_classes)

    skip = None
    weights = pretrained.from_catalog(source)
    if weights and not weights.classes:
        skip = names.classifier
    variables = pretrained.fit(arrays, model=name, expected=expected, skip=skip, source=source)
    return Loaded(config, _only_arrays(variables))


def convert(
    source: str, target: Path, *, model: str | None = None, cache: str | None = None
) -> Loaded:
    """Writes the variables by their paths, with the model's name and the preprocessing."""
    _check_target(target, (".safetensors",))
    loaded = load(source, model, cache=cache)
    metadata = {"format": "imgcls_jax", "model": loaded.model["name"]}
    transform = pretrained.preprocessing(source)
    if transform:
        metadata["transform"] = transform
    safetensors_format.write(target, trees.flatten(loaded.variables), metadata)
    return loaded


def export(
    source: str, target: Path, *, model: str | None = None, cache: str | None = None
) -> Loaded:
    """Writes the arrays by the names and in the layouts of torchvision's or Keras' model.

    - .pth or .pt: a state dict for torch.load and model.load_state_dict.
    - .safetensors: the same, for safetensors.torch.load_file.
    - .h5: for keras' model.load_weights(FILE, by_name=True).
    """
    loaded = load(source, model, cache=cache)
    names = key_map(loaded.model["name"])
    _check_target(target, SUFFIXES[names.family])
    arrays = unport(loaded.variables, name_of=names.name_of)
    if target.suffix in (".pth", ".pt"):
        torch_format.write(target, arrays)
    elif target.suffix == ".h5":
        keras_format.write(target, arrays)
    else:
        safetensors_format.write(target, arrays, {"format": "pt"})
    return loaded


def _model_config(source: str) -> dict[str, Any] | None:
    """config.model of the model that the source is of; None if the source does not say."""
    weights = pretrained.from_catalog(source)
    if weights:
        return {"name": weights.model}
    path = Path(os.path.expanduser(source))
    if path.is_dir():
        config = RunFolder(path).config.model.to_dict()
        config.pop("pretrained", None)
        return config
    if path.is_file() and formats.kind(path) == "safetensors":
        metadata = safetensors_format.read_metadata(path)
        if "model" in metadata:
            return {"name": metadata["model"]}
    return None


def _shapes(config: dict[str, Any], *, num_classes: int) -> Any:
    """The shapes of the model's variables, which do not depend on the size of the images."""
    module = models.create(ConfigDict(config), num_classes=num_classes)
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    return jax.eval_shape(module.init, jax.random.key(0), image)


def _count_classes(arrays: dict[str, np.ndarray], names: KeyMap, expected: Any) -> int | None:
    """The number of classes in a file, by the classifier's bias; None if there is no such bias."""
    for path in trees.flatten(expected):
        if re.search(f"{names.classifier}bias$", path):
            name_in_file, _ = names.name_of(path)
            for name in (path, name_in_file):
                if name in arrays:
                    return arrays[name].size
    return None


def _only_arrays(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree without leaves that were not in the file, and without dicts that are then empty."""
    pruned = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            subtree = _only_arrays(value)
            if subtree:
                pruned[name] = subtree
        elif isinstance(value, np.ndarray):
            pruned[name] = value
    return pruned


def _check_target(target: Path, suffixes: tuple[str, ...]) -> None:
    if target.suffix not in suffixes:
        raise ConfigError(f"--to {target} should end in {' or '.join(suffixes)} for this model.")
    folder = target.absolute().parent
    if not folder.is_dir():
        raise DataError(f"--to {target}: there is no folder {folder}.")
