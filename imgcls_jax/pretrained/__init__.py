"""Pretrained weights as a model's variables: published files by name, other files, and runs."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from imgcls_jax import models, trees
from imgcls_jax.errors import ConfigError
from imgcls_jax.pretrained import sources, transform_check
from imgcls_jax.pretrained.catalog import CATALOG, KEY_MAPS, Weights, key_map
from imgcls_jax.pretrained.layouts import Layout
from imgcls_jax.pretrained.naming import KeyMap
from imgcls_jax.pretrained.port import Variables, file_shape, port
from imgcls_jax.pretrained.sources import (
    describe,
    fetch,
    from_catalog,
    missing,
    preprocessing,
    read,
)

__all__ = [
    "CATALOG",
    "KEY_MAPS",
    "KeyMap",
    "Weights",
    "check_model",
    "describe",
    "fetch",
    "fit",
    "from_catalog",
    "initialize",
    "key_map",
    "load",
    "missing",
    "preprocessing",
    "read",
    "resolve",
]

COLLECTIONS = ("params/", "batch_stats/", "whitening/")  # starts of variable paths
CLASSIFIER = r"^params/classifier/"  # of models without a key map


def resolve(config: ConfigDict) -> ConfigDict:
    """Returns a run's config with what its weights need: model options, and preprocessing.

    Options and preprocessing that the config itself gives stay. Raises ConfigError if there are
    no such weights, or if they are another model's.
    """
    model_sources = sources.by_model(config.model)
    if not model_sources:
        return config
    config = config.copy_and_resolve_references()
    for model, source in model_sources.items():
        check_model(source, model)
        weights = from_catalog(source)
        if weights and weights.options:
            _add_options(config.model, model, weights.options)
    first_source = next(iter(model_sources.values()))
    transform = preprocessing(first_source)
    if transform is not None and not config.data.transform:
        config.data.transform = transform
    return config


def _add_options(config: ConfigDict, model: str, needed: Mapping[str, Any]) -> None:
    """Adds to `config.model` the options that a model's weights need and that it does not give."""
    is_backbone = model != config.name
    current = config
    if is_backbone:
        current = (config.get("options") or {}).get(model, {})
    options = {name: value for name, value in needed.items() if name not in current}
    if is_backbone:
        options = {"options": {model: options}}
    with config.unlocked():
        config.update(options)


def check_model(source: str | os.PathLike, model: str) -> None:
    """Raises ConfigError if the source is a name in the catalogue, for another model's weights."""
    weights = from_catalog(source)
    if weights is None or weights.model == model:
        return
    accepted = [name for name, row in CATALOG.items() if row.model == model]
    raise ConfigError(
        f"{source} are weights of the model {weights.model!r}, not of {model!r}. "
        f"Weights of {model!r}: {', '.join(accepted) or 'none'}."
    )


# ---------------------------------------------------------------------------------------------
# The start of training


def initialize(
    config: ConfigDict, variables: Variables, *, class_names: Sequence[str] = ()
) -> Variables:
    """Returns a model's variables from `config.model.pretrained`.

    variables: those of the model, or their shapes. The classifier keeps them where the weights are
    of other classes: where they have no classifier of that shape, or are those of a run whose
    classes are not `class_names`. A hybrid keeps them outside of its backbones.
    Warns if the transform is not the one that the weights were trained with. Raises as `load` does.
    """
    transform_check.warn_of_differences(config)
    variables = dict(variables)
    for model, source in sources.by_model(config.model).items():
        arrays = read(source, model=model, cache=config.pretrained.cache)
        if model == config.model.name:
            skip = _classifier_to_skip(arrays, model, source, variables, class_names)
            variables = fit(arrays, model=model, expected=variables, skip=skip, source=str(source))
            continue
        # A backbone of a hybrid, whose variables are under its name, without a classifier.
        backbone = {
            collection: tree[model] for collection, tree in variables.items() if model in tree
        }
        arrays = _without_classifier(arrays, model, backbone)
        backbone = fit(arrays, model=model, expected=backbone, source=str(source))
        for collection, tree in backbone.items():
            variables[collection] = {**variables[collection], model: tree}
    return variables


def _classifier_to_skip(
    arrays: Mapping[str, np.ndarray],
    model: str,
    source: str,
    variables: Any,
    class_names: Sequence[str],
) -> str | None:
    """The regex of the classifier's variables if the weights are of other classes, or None."""
    classifier = CLASSIFIER
    if model in KEY_MAPS:
        classifier = KEY_MAPS[model].classifier
    source_classes = sources.class_names(source)
    if source_classes is not None and source_classes != list(class_names):
        return classifier
    name_of = _variable_name
    if not _has_variable_paths(arrays):
        name_of = key_map(model).name_of
    for path, leaf in trees.flatten(variables).items():
        name, layout = name_of(path)
        if re.search(classifier, path):
            shape = file_shape(leaf.shape, layout)
            if name not in arrays or arrays[name].shape != shape:
                return classifier
    return None


def _without_classifier(
    arrays: dict[str, np.ndarray], model: str, backbone: Any
) -> dict[str, np.ndarray]:
    """The arrays without those of variables that the whole model has and the backbone has not."""
    module = models.create(ConfigDict({"name": model}), num_classes=1000)
    image = np.zeros((1, 64, 64, 3), np.float32)
    whole = jax.eval_shape(lambda: module.init(jax.random.key(0), image))
    unwanted = set(trees.flatten(whole)) - set(trees.flatten(backbone))
    if not _has_variable_paths(arrays):
        name_of = key_map(model).name_of
        unwanted = {name_of(path)[0] for path in unwanted}
    return {name: array for name, array in arrays.items() if name not in unwanted}


# ---------------------------------------------------------------------------------------------
# Variables from any source


def load(
    source: str | os.PathLike,
    *,
    model: str,
    expected: Any,
    skip: str | None = None,
    cache: str | os.PathLike | None = None,
) -> Variables:
    """Returns a model's variables from a name in the catalogue, a file, or a run folder.

    model: a name in MODELS.
    expected: its variables or their shapes, {"params": ..., "batch_stats": ...}.
    skip: regex of variable paths that keep the leaves of `expected`. It is
    `key_map(model).classifier` if the number of classes is not the file's, or the file has no
    classifier.
    cache: the folder of downloads.

    Returns the tree of `expected` with float32 NumPy leaves. Memory: the file's size and one array.
    Raises ConfigError if there is no such source or it is another model's, and DataError or
    RunError if it cannot be had, cannot be read, or does not fit.
    """
    check_model(source, model)
    arrays = read(source, model=model, cache=cache)
    return fit(arrays, model=model, expected=expected, skip=skip, source=str(source))


def fit(
    arrays: dict[str, np.ndarray],
    *,
    model: str,
    expected: Any,
    skip: str | None = None,
    source: str = "The file",
) -> Variables:
    """Returns a model's variables from the arrays of `read`, as `load` does; empties `arrays`."""
    if _has_variable_paths(arrays):
        return port(arrays, expected, name_of=_variable_name, skip=skip, source=source)
    names = key_map(model)
    return port(
        arrays, expected, name_of=names.name_of, ignored=names.ignored, skip=skip, source=source
    )


def _has_variable_paths(arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether arrays are named by variable paths, as those of runs and of our own files are."""
    return all(name.startswith(COLLECTIONS) for name in arrays)


def _variable_name(path: str) -> tuple[str, str]:
    """The key map of our own files."""
    return path, Layout.SAME
