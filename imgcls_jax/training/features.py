"""Features computed once, if nothing before the head is trained or random.

They are kept on disk under a hash of all that they depend on: weights, model, transform, images. Runs
with other seeds, learning rates and heads on the same backbone find them there.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
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
from imgcls_jax.training import parallel

log = logging.getLogger(__name__)

CACHED = re.compile(r".+-[0-9a-f]{32}\.npz")  # the names of files, as `_path` gives them
VERSION = 1  # raised when models come to give other features for the same weights


def compute(
    config: ConfigDict,
    embed: Callable[..., np.ndarray],
    variables: dict[str, Any],
    feature_paths: frozenset[str],
    data: Dataset,
) -> tuple[np.ndarray, float]:
    """Returns vectors float32 [N, F] of the data's images, and the seconds that they take to compute.

    embed: as of `dispatch.make_predict`. feature_paths: of the parameters that the features depend on.
    """
    path = _path(config, variables, feature_paths, data)
    if path:
        files.sweep(path.parent)
    if path and path.exists():
        try:
            vectors, seconds = _read(path)
            log.info("The features of %s images are read from %s.", f"{len(data):,}", path)
            return vectors, seconds
        except Exception as error:  # a damaged file can raise nearly anything
            log.warning(
                "The features in %s are damaged (%s): they are computed again.", path, error
            )
    batch_size = config.train.eval_batch_size
    vectors, seconds = _compute(embed, variables, data.images, batch_size=batch_size)
    log.info("The features of %s images took %.1f s.", f"{len(data):,}", seconds)
    if path:
        try:
            _write(path, vectors, seconds, max_bytes=config.adapt.feature_disk_bytes)
        except OSError as error:
            log.warning(
                "The features cannot be kept in %s (%s). --config.adapt.feature_folder=FOLDER keeps "
                "them elsewhere, an empty value nowhere.",
                path.parent,
                error,
            )
    return vectors, seconds


def spared(epoch_seconds: list[float], feature_seconds: float) -> str:
    """Returns a sentence on the time that epochs on features saved.

    feature_seconds: what the training images' features take to compute, also where they were read.
    """
    count, on_features = len(epoch_seconds), sum(epoch_seconds)
    once = on_features + feature_seconds
    each_time = on_features + count * feature_seconds
    return (
        f"{count} epochs on features took {on_features:.1f} s, and computing the features takes "
        f"{feature_seconds:.1f} s; in every epoch that would have been {each_time:.1f} s, "
        f"{each_time / once:.1f} times as long."
    )


def _compute(embed, variables, images: np.ndarray, *, batch_size: int) -> tuple[np.ndarray, float]:
    vectors = []
    times = []
    batches = filled_batches(len(images), batch_size)
    is_hidden = None if distributed.is_primary() else True  # None: where there is no terminal
    for batch in tqdm(batches, "features", unit="batch", leave=False, disable=is_hidden):
        started = time.perf_counter()
        vectors.append(embed(variables, parallel.replicate(images[batch])))
        times.append(time.perf_counter() - started)
    times = times[1:] or times  # the first one compiles
    seconds_per_image = sum(times) / len(times) / batch_size
    return np.concatenate(vectors)[: len(images)], seconds_per_image * len(images)


def _path(
    config: ConfigDict, variables: dict[str, Any], feature_paths: frozenset[str], data: Dataset
) -> Path | None:
    """Returns where the features are kept, or would be; None if none are."""
    settings = config.adapt
    if not settings.feature_folder or not settings.feature_disk_bytes:
        return None
    params = trees.flatten(variables["params"])
    used = {path: params[path] for path in sorted(feature_paths)}
    weights = parallel.fetch({**variables, "params": used})
    parts = [
        VERSION,
        jax.__version__,
        jax.default_backend(),
        config.train.precision,
        config.train.winograd,
        config.data.transform,
        models.architecture(config.model),
        trees.digest(weights),
        data.fingerprint,
    ]
    key = hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()
    folder = Path(os.path.expanduser(settings.feature_folder))
    return folder / f"{config.model.name}-{key[:32]}.npz"


def _read(path: Path) -> tuple[np.ndarray, float]:
    with foreign.open_npz(path) as arrays:
        vectors = arrays["vectors"]
        seconds = float(arrays["seconds"])
        if trees.digest(vectors) != str(arrays["digest"]):
            raise ValueError("the checksum does not match")
    with contextlib.suppress(OSError):  # of another user, or on a disk that cannot be written
        os.utime(path)  # the least recently used are deleted first
    return vectors, seconds


def _write(path: Path, vectors: np.ndarray, seconds: float, *, max_bytes: int) -> None:
    """Keeps the features, and deletes the least recently used beyond `max_bytes` of all."""
    if vectors.nbytes > max_bytes:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as file:
        np.savez(file, vectors=vectors, seconds=seconds, digest=trees.digest(vectors))
    kept = [file for file in path.parent.iterdir() if CACHED.fullmatch(file.name)]
    kept.sort(key=lambda file: file.stat().st_mtime)
    total = sum(file.stat().st_size for file in kept)
    for file in kept[:-1]:
        if total <= max_bytes:
            return
        total -= file.stat().st_size
        file.unlink(missing_ok=True)
