"""A small residual network on noise, for tests of what trains and what is frozen."""

import numpy as np

from configs import base
from imgcls_jax.data import Splits
from imgcls_jax.data.dataset import Dataset
from imgcls_jax.run.folder import RunFolder
from imgcls_jax.training import loop


def noise(count: int, seed: int) -> Dataset:
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return Dataset(images, (np.arange(count) % 3).astype(np.int32), ("a", "b", "c"))


DATA = Splits(train=noise(48, 0), validation=noise(12, 1), test=noise(12, 2), report={})


def small_config(**changes):
    config = base.get_config()
    config.model.update(
        name="resnet20", blocks=(1, 1), width=8, kernels=(3, 3), shortcut_kernels=(1, 1)
    )
    config.train.update(epochs=2, batch_size=16, eval_batch_size=12)
    config.optimizer.update(name="sgd", momentum=0.9, learning_rate=0.05)
    config.adapt.feature_bytes = 0
    config.adapt.feature_folder = ""
    config.update_from_flattened_dict(changes)
    return config


def train(config, path, data=DATA) -> RunFolder:
    run = RunFolder(path)
    path.mkdir(exist_ok=True)
    run.write_json("config.json", config.to_dict())
    shape = {"train": {"shape": [8, 8, 3], "pixel_mean": 127.5}}
    run.write_json("data.json", {"class_names": ["a", "b", "c"], "splits": shape})
    loop.train(config, run, data)
    return run


def changed(first, last) -> set[str]:
    assert set(first) == set(last)
    return {path for path in first if not np.array_equal(first[path], last[path])}


def without_times(history):
    return [
        {key: line[key] for key in line if key not in ("seconds", "images_per_second")}
        for line in history
    ]
