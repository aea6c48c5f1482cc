"""Features computed once: where nothing before the head is trained or random, training runs on its vectors.

They are kept on disk, by a hash of all that they depend on: weights, model, transform, images. Other seeds, rates and
heads on the same backbone find them there.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from imgcls_jax import distributed, files, foreign, models, trees
from imgcls_jax.data.batches import filled_batches
from imgcls_jax.data.dataset import Dataset
from imgcls_jax.training import steps

log = logging.getLogger(__name__)

VERSION = 1  # raised when models come to give other features for the same weights


def compute(
    config: ConfigDict,
    embed: Callable[..., np.ndarray],
    variables: dict[str, Any],
    read: frozenset[str],
    data: Dataset,
) -> tuple[np.ndarray, float]:
    """Vectors float32 [N, F] of the data's images, and the seconds that they take to compute.

    embed: as of `steps.make_predict`. read: the paths of the parameters that the features depend on.
    """
    path = _path(config, variables, read, data)
    if path:
        files.sweep(path.parent)
    if path and path.exists():
        try:
            return _read(path)
        except Exception as error:  # a damaged file can raise nearly anything
            log.warning(
                "The kept features %s are damaged (%s); they are computed anew.", path, error
            )
    vectors, seconds = _compute(
        embed, variables, data.images, batch_size=config.train.eval_batch_size
    )
    if path:
        try:
            _write(path, vectors, seconds, most=config.adapt.feature_disk)
        except OSError as error:
            log.warning(
                "The features cannot be kept in %s (%s). --config.adapt.feature_folder=FOLDER keeps them elsewhere, an "
                "empty value nowhere.",
                path.parent,
                error,
            )
    return vectors, seconds


def spared(epochs: list[float], features: float) -> str:
    """What epochs of these seconds on features, which took `features` seconds, were spared, in words."""
    once, always = (sum(epochs) + times * features for times in (1, len(epochs)))
    return (
        f"{len(epochs)} epochs with the training images' features took {once:.1f} s; with the features computed in "
        f"every epoch it would have been {always:.1f} s, {always / once:.1f} times as long."
    )


def _compute(embed, variables, images: np.ndarray, *, batch_size: int) -> tuple[np.ndarray, float]:
    parts, times = [], []
    batches = filled_batches(len(images), batch_size)
    for index in tqdm(
        batches,
        "features",
        unit="batch",
        leave=False,
        disable=None if distributed.is_primary() else True,
    ):
        started = time.perf_counter()
        parts.append(embed(variables, steps.replicate(images[index])))
        times.append(time.perf_counter() - started)
    rest = times[1:] or times  # the first one compiles
    return np.concatenate(parts)[: len(images)], sum(rest) / len(rest) * len(images) / batch_size


def _path(
    config: ConfigDict, variables: dict[str, Any], read: frozenset[str], data: Dataset
) -> Path | None:
    """Where the features are kept, or would be; None where none are."""
    settings = config.adapt
    if not settings.feature_folder or not settings.feature_disk:
        return None
    params, state = (
        trees.flatten(variables["params"]),
        {key: variables[key] for key in variables if key != "params"},
    )
    used = steps.fetch({"params": {path: params[path] for path in sorted(read)}, **state})
    model = models.architecture(config.model)
    words = [
        VERSION,
        jax.__version__,
        jax.default_backend(),
        config.train.precision,
        config.data.transform,
        model,
    ]
    key = hashlib.sha256(
        json.dumps([*words, trees.digest(used), data.fingerprint], default=str).encode()
    ).hexdigest()
    return Path(os.path.expanduser(settings.feature_folder)) / f"{config.model.name}-{key[:32]}.npz"


def _read(path: Path) -> tuple[np.ndarray, float]:
    with foreign.open_regular(path) as file, np.load(file, allow_pickle=False) as arrays:
        vectors, seconds = arrays["vectors"], float(arrays["seconds"])
        if trees.digest(vectors) != str(arrays["digest"]):
            raise ValueError("the checksum does not match")
    os.utime(path)  # what is used is kept longest
    return vectors, seconds


def _write(path: Path, vectors: np.ndarray, seconds: float, *, most: int) -> None:
    if vectors.nbytes > most:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as file:
        np.savez(file, vectors=vectors, seconds=seconds, digest=trees.digest(vectors))
    kept = sorted(path.parent.glob("*.npz"), key=lambda file: file.stat().st_mtime)
    while sum(file.stat().st_size for file in kept) > most and len(kept) > 1:
        kept.pop(0).unlink(missing_ok=True)
