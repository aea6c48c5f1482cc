"""Pretrained weights as a model's variables: published files by name, files of several formats, runs of our own."""

import difflib
import hashlib
import json
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from imgcls_jax import models, trees
from imgcls_jax.data.image_ops import CenterCrop, Normalize, Op, Resize, Rgb
from imgcls_jax.data.transforms import parse
from imgcls_jax.errors import ConfigError, DataError
from imgcls_jax.pretrained import download, formats, packages, runs, safetensors_format
from imgcls_jax.pretrained.catalog import CATALOG, KEY_MAPS, Weights, key_map
from imgcls_jax.pretrained.port import Variables, file_shape, port
from imgcls_jax.run.folder import CONFIG, RunFolder, training_command

__all__ = [
    *("CATALOG", "KEY_MAPS", "Weights"),
    *(
        "check_model",
        "describe",
        "fetch",
        "fit",
        "initialize",
        "key_map",
        "load",
        "missing",
        "named",
    ),
    *("preprocessing", "read", "resolve"),
]

log = logging.getLogger(__name__)

COLLECTIONS = (
    "params/",
    "batch_stats/",
    "whitening/",
)  # with which the names in our own files and runs begin


def resolve(config: ConfigDict) -> ConfigDict:
    """The config of a run with what its pretrained weights bring: model options, and preprocessing unless it is given.

    Raises ConfigError for weights that there are not, or that are another model's.
    """
    sources = parts(config.model)
    if not sources:
        return config
    config = config.copy_and_resolve_references()
    for model, source in sources.items():
        check_model(source, model)
        if (weights := named(source)) and weights.options:
            own = model == config.model.name
            given = config.model if own else config.model.get("options", {}).get(model, {})
            options = {key: value for key, value in weights.options.items() if key not in given}
            with config.model.unlocked():
                config.model.update(options if own else {"options": {model: options}})
    transform = preprocessing(next(iter(sources.values())))
    if transform is not None and not config.data.transform:
        config.data.transform = transform
    return config


def parts(config: ConfigDict) -> dict[str, str]:
    """Where the weights of the config's model come from, or of a hybrid's backbones, by model; {} without weights.

    A hybrid has a source for each of its backbones, in their order, separated by commas. Raises ConfigError.
    """
    given = config.get("pretrained")
    if not given:
        return {}
    if config.name != "hybrid":
        return {config.name: given}
    sources = [source.strip() for source in given.split(",")]
    if len(sources) != len(config.backbones):
        raise ConfigError(
            f"config.model.pretrained is {given!r}: give {len(config.backbones)} sources separated by commas, one for "
            f"each of {', '.join(config.backbones)}."
        )
    return dict(zip(config.backbones, sources, strict=True))


def fetch(config: ConfigDict) -> None:
    """Downloads the published files that `config.model.pretrained` names, if not in the cache. Raises DataError."""
    for source in parts(config.model).values():
        if weights := named(source):
            _published(weights, config.pretrained.cache)


def _published(weights: Weights, cache: str | os.PathLike | None) -> Path:
    """The verified file, in its Python package or in the cache. Raises DataError."""
    return packages.find(weights) if weights.package else download.fetch(weights, cache)


def describe(config: ConfigDict) -> dict[str, dict[str, str]]:
    """The name and the SHA-256 of each file that `config.model.pretrained` stands for, by model, JSON-ready.

    Of a run they are its folder's name, and the SHA-256 of its best model's variables, as `trees.digest` has it. Raises
    as `load` does.
    """
    files = {}
    for model, source in parts(config.model).items():
        path = (
            _published(weights, config.pretrained.cache)
            if (weights := named(source))
            else _path(source)
        )
        if path.is_dir():
            digest = trees.digest(runs.read(path))
        else:
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        files[model] = {"file": path.name, "sha256": digest}
    return files


def missing(config: ConfigDict) -> list[str]:
    """What `config.model.pretrained` names and is not here: names of the catalogue, which can be fetched, and paths."""
    return [
        source
        for source in parts(config.model).values()
        if not _is_here(source, config.pretrained.cache)
    ]


def _is_here(source: str, cache: str) -> bool:
    weights = named(source)
    if weights is None:
        return os.path.exists(Path(source).expanduser())
    if weights.package:
        return packages.status(weights) == "in package"
    return download.cached_path(weights, cache).exists()


def initialize(
    config: ConfigDict, *, params: Any, model_state: Any, class_names: Sequence[str] = ()
) -> tuple[Any, Any]:
    """Parameters and model state from `config.model.pretrained`, for a model that has those given.

    The classifier keeps the values given where the weights' classes are others: where they have no classifier of that
    shape, or are those of a run of other classes than `class_names`. Warns of a transform other than the one that the
    weights were trained with. Raises as `load` does.
    """
    _compare_preprocessing(config)
    variables = {"params": params, **model_state}
    for model, source in parts(config.model).items():
        if model == config.model.name:
            variables = _initialize(config, model, source, variables, class_names)
        else:  # a hybrid's backbone, which stands under its name and has no classifier
            own = {
                collection: tree[model] for collection, tree in variables.items() if model in tree
            }
            arrays = read(source, model=model, cache=config.pretrained.cache)
            own = fit(
                _without_classifier(arrays, model, own),
                model=model,
                expected=own,
                source=str(source),
            )
            variables = {
                name: tree | {model: own[name]} if name in own else tree
                for name, tree in variables.items()
            }
    return variables.pop("params"), variables


def _compare_preprocessing(config: ConfigDict) -> None:
    """Warns where evaluation sees images of another size, or of other values, than the weights were trained on."""
    given, own_size = config.data.transform, _size(config.data.transform, config.data.image_size)
    for model, source in parts(config.model).items():
        transform = preprocessing(source)
        if transform is None:
            log.warning(
                "Nothing is known of the preprocessing of %s: data.transform should be what it was trained with.",
                source,
            )
            continue
        size, values = _size(transform, 0), _values(transform)
        options = (
            config.model
            if model == config.model.name
            else (config.model.get("options") or {}).get(model, {})
        )
        if options.get(
            "transform_input"
        ):  # the model itself turns ImageNet's values into those of the weights
            values = [Normalize("imagenet")]
        if (values, size) != (_values(given), own_size):
            trained = f"{source} were trained on images{_of_size(size)} through {transform!r}"
            log.warning(
                "The weights %s; data.transform is %r%s.", trained, given, _of_size(own_size)
            )


def _values(transform: str) -> list[Op]:
    """The operations on the values of images that are not random: normalization, order of the channels."""
    return [
        op
        for op in parse(transform).ops
        if not (op.random or isinstance(op, Rgb | Resize | CenterCrop))
    ]


def _size(transform: str, image_size: int) -> int:
    """Pixels of a side of what comes out of a transform of images of `image_size`; 0 where that is not known."""
    sizes = [op.size for op in parse(transform).ops if isinstance(op, Resize | CenterCrop)]
    return sizes[-1] if sizes else image_size


def _of_size(size: int) -> str:
    return f" of {size}x{size} pixels" if size else ""


def _without_classifier(
    arrays: dict[str, np.ndarray], model: str, expected: Any
) -> dict[str, np.ndarray]:
    """The arrays without those that the model has beyond `expected`."""
    whole = models.create(ConfigDict({"name": model}), num_classes=1000)
    whole = jax.eval_shape(
        lambda: whole.init(jax.random.key(0), np.zeros((1, 64, 64, 3), np.float32))
    )
    beyond = set(trees.flatten(whole)) - set(trees.flatten(expected))
    if all(name.startswith(COLLECTIONS) for name in arrays):
        names = beyond
    else:
        names = {key_map(model).name_of(path)[0] for path in beyond}
    return {name: array for name, array in arrays.items() if name not in names}


def _initialize(
    config: ConfigDict, model: str, source: str, variables: Any, class_names: Sequence[str]
) -> Any:
    arrays = read(source, model=model, cache=config.pretrained.cache)
    keys = KEY_MAPS.get(model)
    ours = all(name.startswith(COLLECTIONS) for name in arrays)
    name_of = (lambda path: (path, "same")) if ours else key_map(model).name_of
    classifier = keys.classifier if keys else r"^params/classifier/"
    skip = None if _class_names(source) in (None, list(class_names)) else classifier
    for path, leaf in trees.flatten(variables).items():
        name, layout = name_of(path)
        if re.search(classifier, path) and (
            name not in arrays or arrays[name].shape != file_shape(leaf.shape, layout)
        ):
            skip = classifier
    return fit(arrays, model=model, expected=variables, skip=skip, source=str(source))


def _class_names(source: str) -> list[str] | None:
    """Those of a run, or of the file that one was exported to; None where they are not known."""
    path = Path(os.path.expanduser(source))
    if path.is_dir():
        return RunFolder(path).data["class_names"]
    if not path.is_file() or formats.kind(path) != "safetensors":
        return None
    return json.loads(safetensors_format.read_words(path).get("class_names", "null"))


def load(
    source: str | os.PathLike,
    *,
    model: str,
    expected: Any,
    skip: str | None = None,
    cache: str | os.PathLike | None = None,
) -> Variables:
    """The variables of a model from a name in the catalogue, a file of any format, or a run folder.

    model: name in MODELS. expected: its variables, or their shapes: {"params": ..., "batch_stats": ...}.
    skip: regex of variable paths that keep the leaves of `expected`: `key_map(model).classifier` for a number of
    classes that is not the file's, or for a file without a classifier. cache: where downloads are kept.
    Returns the tree of `expected` with float32 NumPy leaves. Memory: the file's size and one array.
    Raises ConfigError for a source that there is not or that is another model's, and DataError or RunError for one that
    cannot be had or read, or does not fit.
    """
    check_model(source, model)
    return fit(
        read(source, model=model, cache=cache),
        model=model,
        expected=expected,
        skip=skip,
        source=str(source),
    )


def fit(
    arrays: dict[str, np.ndarray],
    *,
    model: str,
    expected: Any,
    skip: str | None = None,
    source: str = "The file",
) -> Variables:
    """What `load` does with the arrays that `read` gives; `arrays` is emptied."""
    if all(name.startswith(COLLECTIONS) for name in arrays):
        return port(arrays, expected, name_of=lambda path: (path, "same"), skip=skip, source=source)
    names = key_map(model)
    return port(
        arrays, expected, name_of=names.name_of, ignored=names.ignored, skip=skip, source=source
    )


def check_model(source: str | os.PathLike, model: str) -> None:
    """Raises ConfigError where a name in the catalogue stands for another model's weights."""
    weights = named(source)
    if weights and weights.model != model:
        others = ", ".join(name for name, row in CATALOG.items() if row.model == model) or "none"
        raise ConfigError(
            f"{source} are weights of the model {weights.model!r}, not of {model!r}. Weights of {model!r}: {others}."
        )


def read(
    source: str | os.PathLike, *, model: str, cache: str | os.PathLike | None = None
) -> dict[str, np.ndarray]:
    """The arrays of a source by the names in its file, aliases resolved; of a run by the paths of its variables."""
    path = _published(weights, cache) if (weights := named(source)) else _path(source)
    if path.is_dir():
        return runs.read(path)
    arrays = formats.read(path)
    for alias, name in KEY_MAPS[model].aliases.items() if model in KEY_MAPS else ():
        arrays = {
            name + key.removeprefix(alias) if key.startswith(alias) else key: arrays[key]
            for key in arrays
        }
    return arrays


def named(source: str | os.PathLike) -> Weights | None:
    """The row of the catalogue, where the source is a name in it."""
    return CATALOG.get(source) if isinstance(source, str) else None


def preprocessing(source: str | os.PathLike) -> str | None:
    """The transform (as config.data.transform has it) that the weights were trained with, where it is known."""
    if weights := named(source):
        return weights.transform
    path = _path(source)
    if path.is_dir():
        return RunFolder(path).config.data.transform
    if formats.kind(path) == "safetensors":
        return safetensors_format.read_words(path).get("transform")
    return None


def _path(source: str | os.PathLike) -> Path:
    path = Path(os.path.expanduser(source))
    if os.path.isfile(path) or os.path.isfile(path / CONFIG):
        return path
    if os.path.isdir(path):
        raise DataError(f"{path} is a folder, but no run folder: it has no {CONFIG}.")
    near = difflib.get_close_matches(str(source), CATALOG, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ConfigError(
        f"There are no weights {str(source)!r}: neither a file, nor a run folder, nor a name in the catalogue.{hint}"
        f"{training_command(path)} Names: {', '.join(CATALOG)}."
    )
