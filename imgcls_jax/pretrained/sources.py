"""Sources of weights: a name in the catalogue, a file of any format, or the folder of a run."""

import difflib
import hashlib
import json
import os
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from imgcls_jax import trees
from imgcls_jax.errors import ConfigError, DataError, pip_install
from imgcls_jax.pretrained import download, formats, packages, runs, safetensors_format
from imgcls_jax.pretrained.catalog import CATALOG, KEY_MAPS, Weights
from imgcls_jax.run.folder import CONFIG, RunFolder, training_command

Source = str | os.PathLike

# What can be trained where published weights cannot be had.
WITHOUT_WEIGHTS = (
    "Without them: configs/own_images.py, configs/mnist_cnn.py and configs/cifar_fast.py train from "
    "random weights"
)
WITH_PIP = f"; {pip_install('weights')} brings those of configs/own_photos.py"


def by_model(model_config: ConfigDict) -> dict[str, str]:
    """Returns the source of the weights of `config.model` by its name; {} for random weights.

    A hybrid has a source for each of its backbones: `pretrained` gives them in the same order,
    separated by commas. Raises ConfigError if there are more or fewer.
    """
    pretrained = model_config.get("pretrained")
    if not pretrained:
        return {}
    if model_config.name != "hybrid":
        return {model_config.name: pretrained}
    sources = [source.strip() for source in pretrained.split(",")]
    backbones = model_config.backbones
    if len(sources) != len(backbones):
        raise ConfigError(
            f"config.model.pretrained is {pretrained!r}: give {len(backbones)} sources "
            f"separated by commas, one for each of {', '.join(backbones)}."
        )
    return dict(zip(backbones, sources, strict=True))


def from_catalog(source: Source) -> Weights | None:
    """Returns the row of the catalogue if the source is a name in it."""
    if not isinstance(source, str):
        return None
    return CATALOG.get(source)


def fetch(config: ConfigDict) -> None:
    """Downloads the published files of `config.model.pretrained` into the cache.

    Raises DataError if that fails.
    """
    for source in by_model(config.model).values():
        weights = from_catalog(source)
        if weights:
            _published_file(weights, config.pretrained.cache)


def missing(config: ConfigDict) -> list[str]:
    """Returns those sources of `config.model.pretrained` that are not on this machine.

    These are names in the catalogue, which can be fetched, and paths.
    """
    missing_sources = []
    for source in by_model(config.model).values():
        if not _is_local(source, config.pretrained.cache):
            missing_sources.append(source)
    return missing_sources


def describe(config: ConfigDict) -> dict[str, dict[str, str]]:
    """Returns the name and the SHA-256 of each source of `config.model.pretrained`, by model.

    For a run they are the folder's name, and the digest of its best model's variables
    (`trees.digest`). Raises as `read` does.
    """
    descriptions = {}
    for model, source in by_model(config.model).items():
        path = _local_path(source, config.pretrained.cache)
        if path.is_dir():
            digest = trees.digest(runs.read(path))
        else:
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        descriptions[model] = {"file": path.name, "sha256": digest}
    return descriptions


def read(
    source: Source, *, model: str, cache: str | os.PathLike | None = None
) -> dict[str, np.ndarray]:
    """Returns a source's arrays: of a file by the names in it, of a run by variable paths.

    Names that a key map has aliases for are replaced. cache: the folder of downloads.
    Raises ConfigError if there is no such source, and DataError or RunError if it cannot be read.
    """
    path = _local_path(source, cache)
    if path.is_dir():
        return runs.read(path)
    arrays = formats.read(path)
    if model not in KEY_MAPS:
        return arrays
    renamed = {}
    for name, array in arrays.items():
        for alias, start in KEY_MAPS[model].aliases.items():
            if name.startswith(alias):
                name = start + name.removeprefix(alias)
        renamed[name] = array
    return renamed


def preprocessing(source: Source) -> str | None:
    """Returns the transform with which the weights were trained, if it is known.

    Its notation is that of config.data.transform.
    """
    weights = from_catalog(source)
    if weights:
        return weights.transform
    path = existing_path(source)
    if path.is_dir():
        return RunFolder(path).config.data.get("transform")
    if formats.kind(path) == "safetensors":
        return safetensors_format.read_metadata(path).get("transform")
    return None


def class_names(source: Source) -> list[str] | None:
    """Returns the class names of a run, or of a file that a run was exported to, if known.

    Raises RunError or DataError if they are damaged.
    """
    path = Path(os.path.expanduser(source))
    if path.is_dir():
        return RunFolder(path).data["class_names"]
    if path.is_file() and formats.kind(path) == "safetensors":
        metadata = safetensors_format.read_metadata(path)
        try:
            return json.loads(metadata.get("class_names", "null"))
        except ValueError as error:
            raise DataError(f"{path} is damaged: its class_names are no JSON ({error}).") from error
    return None


def existing_path(source: Source) -> Path:
    """Returns the path of a file or a run folder. Raises ConfigError or DataError otherwise."""
    path = Path(os.path.expanduser(source))
    if os.path.isfile(path) or os.path.isfile(path / CONFIG):
        return path
    if os.path.isdir(path):
        raise DataError(f"{path} is a folder, but no run folder: it has no {CONFIG}.")
    hint = ""
    for nearest in difflib.get_close_matches(str(source), CATALOG, n=1):
        hint = f" Did you mean {nearest!r}?"
    raise ConfigError(
        f"There are no weights {str(source)!r}: it is no file, no run folder and no name in the "
        f"catalogue.{hint}{training_command(path)} Names: {', '.join(CATALOG)}."
    )


def _local_path(source: Source, cache: str | os.PathLike | None) -> Path:
    """The path of a source, which is downloaded if necessary."""
    weights = from_catalog(source)
    if weights:
        return _published_file(weights, cache)
    return existing_path(source)


def _published_file(weights: Weights, cache: str | os.PathLike | None) -> Path:
    """Returns the verified file, in its Python package or in the cache.

    Raises DataError, which also says what can be trained without it.
    """
    try:
        if weights.package:
            return packages.find(weights)
        return download.fetch(weights, cache)
    except DataError as error:
        others = WITHOUT_WEIGHTS
        if not weights.package:
            others += WITH_PIP
        raise DataError(f"{error}\n{others}.") from error


def _is_local(source: Source, cache: str | os.PathLike | None) -> bool:
    weights = from_catalog(source)
    if weights is None:
        return os.path.exists(os.path.expanduser(source))
    if weights.package:
        return packages.status(weights) == packages.INSTALLED
    return download.cached_path(weights, cache).exists()
