"""Weights of any source as one safetensors file, and back into the files that PyTorch and Keras read."""

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
from imgcls_jax.pretrained.port import unport
from imgcls_jax.run.folder import RunFolder

IMAGENET = 1000  # classes
TARGETS = {"torch": (".pth", ".pt", ".safetensors"), "keras": (".h5", ".safetensors")}


@dataclasses.dataclass(frozen=True)
class Loaded:
    """Variables, and the model that they are of: config.model's keys."""

    model: dict[str, Any]
    variables: dict[str, Any]

    @property
    def parameters(self) -> int:
        return trees.count(self.variables["params"])


def load(source: str, model: str | None = None, *, cache: str | None = None) -> Loaded:
    """The variables of a source with its own number of classes; `model` is needed where the source does not know it.

    Raises ConfigError where the model is not known, and whatever `pretrained.load` raises.
    """
    config = {"name": model} if model else _model_of(source)
    if config is None:
        raise ConfigError(
            f"{source} does not say which model it is of: give --model, one of {', '.join(models.MODELS)}."
        )
    name = config["name"]
    pretrained.check_model(source, name)
    names, expected = key_map(name), _shapes(config, num_classes=IMAGENET)
    arrays = pretrained.read(source, model=name, cache=cache)
    bias = next(
        path for path in trees.flatten(expected) if re.search(names.classifier + "bias$", path)
    )
    found = next((arrays[key] for key in (bias, names.name_of(bias)[0]) if key in arrays), None)
    if found is not None and found.shape != (IMAGENET,):
        expected = _shapes(config, num_classes=found.size)
    weights = pretrained.named(source)
    skip = names.classifier if weights and not weights.classes else None
    return Loaded(
        config,
        _only_arrays(
            pretrained.fit(arrays, model=name, expected=expected, skip=skip, source=source)
        ),
    )


def convert(
    source: str, target: Path, *, model: str | None = None, cache: str | None = None
) -> Loaded:
    """Writes the variables by their paths in the Flax model, with the model's name and the preprocessing."""
    _check_suffix(target, (".safetensors",))
    loaded = load(source, model, cache=cache)
    words = {"format": "imgcls_jax", "model": loaded.model["name"]}
    if transform := pretrained.preprocessing(source):
        words["transform"] = transform
    safetensors_format.write(target, trees.flatten(loaded.variables), words)
    return loaded


def export(
    source: str, target: Path, *, model: str | None = None, cache: str | None = None
) -> Loaded:
    """Writes the arrays by the names and in the layouts of torchvision's or Keras' model.

    .pth or .pt: a state dict for torch.load and model.load_state_dict. .safetensors: the same, for
    safetensors.torch.load_file.
    .h5: for keras' model.load_weights(FILE, by_name=True).
    """
    loaded = load(source, model, cache=cache)
    names = key_map(loaded.model["name"])
    _check_suffix(target, TARGETS[names.family])
    arrays = unport(loaded.variables, name_of=names.name_of)
    if target.suffix in (".pth", ".pt"):
        torch_format.write(target, arrays)
    elif target.suffix == ".h5":
        keras_format.write(target, arrays)
    else:
        safetensors_format.write(target, arrays, {"format": "pt"})
    return loaded


def _model_of(source: str) -> dict[str, Any] | None:
    if weights := pretrained.named(source):
        return {"name": weights.model}
    path = Path(os.path.expanduser(source))
    if path.is_dir():
        options = RunFolder(path).config.model.to_dict()
        return {key: value for key, value in options.items() if key != "pretrained"}
    if path.is_file() and formats.kind(path) == "safetensors":
        words = safetensors_format.read_words(path)
        return {"name": words["model"]} if "model" in words else None
    return None


def _shapes(config: dict[str, Any], *, num_classes: int) -> Any:
    """The model's variables without content; their shapes do not depend on the size of the images."""
    module = models.create(ConfigDict(config), num_classes=num_classes)
    return jax.eval_shape(
        module.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    )


def _only_arrays(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree without the leaves that were not in the file."""
    pruned = {
        key: _only_arrays(value) if isinstance(value, dict) else value
        for key, value in tree.items()
    }
    return {
        key: value
        for key, value in pruned.items()
        if isinstance(value, np.ndarray) or (isinstance(value, dict) and value)
    }


def _check_suffix(target: Path, accepted: tuple[str, ...]) -> None:
    if target.suffix not in accepted:
        raise ConfigError(f"--to {target} should end in {' or '.join(accepted)} for this model.")
    if not target.absolute().parent.is_dir():
        raise DataError(f"--to {target}: there is no folder {target.absolute().parent}.")
