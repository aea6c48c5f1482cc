"""From `config.data` to checked training, validation and test sets: `load(config.data).train.images`."""

import dataclasses
import logging
import math

import numpy as np
from ml_collections import ConfigDict

from imgcls_jax.data import checks
from imgcls_jax.data.dataset import Dataset
from imgcls_jax.data.drawn import with_drawn
from imgcls_jax.data.sources import SOURCES
from imgcls_jax.data.splits import stratified_split
from imgcls_jax.errors import choose

log = logging.getLogger(__name__)

OWN, HELD_OUT = (
    "the source's own",
    "held out of the training images",
)  # where a split comes from, in the data report


@dataclasses.dataclass(frozen=True)
class Splits:
    """The three splits of a data set, without overlap, and the data report of checks.py."""

    train: Dataset
    validation: Dataset
    test: Dataset
    report: dict

    @property
    def fingerprint(self) -> str:
        """One SHA-256 over the fingerprints of the three splits."""
        return checks.fingerprint(
            {"train": self.train, "validation": self.validation, "test": self.test}
        )

    @property
    def nbytes(self) -> int:
        """Of the images of all three."""
        return sum(dataset.images.nbytes for dataset in (self.train, self.validation, self.test))


def device_budget(config: ConfigDict, nbytes: int) -> float | None:
    """`config.data.device_budget` where so many bytes of images are more, else None; config: that part of a run's.

    Runs of versions that had no such option have no limit.
    """
    budget = config.get("device_budget", math.inf)
    return budget if nbytes > budget else None


def load(config: ConfigDict, *, keep: bool = True) -> Splits:
    """Reads the data that `config.data` names, checks it and splits it.

    keep: whether what was decoded is kept in `config.cache`, and a TFDS data set prepared where it is not; without,
    nothing is written: a config that comes from somebody else names places of its own.

    Images of more bytes than `config.device_budget` are left where the source has them: LazyImages, if on disk.
    The test set is the source's own, or `config.test` of its training set where it has none; so is the validation set,
    or `config.validation` of what is then left for training. The training set is `config.train` of what is then left,
    with `config.drawn` drawn images of each digit. The report's `origin` says of both which it is.

    Errors: DataError for data that is missing, damaged or not what it should be; ConfigError for options that do not
    fit the data.
    """
    read = choose("data source", config.source, SOURCES)
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.keep = keep
    datasets = read(config)
    checks.refuse(datasets)
    if device_budget(config, sum(dataset.images.nbytes for dataset in datasets.values())) is None:
        datasets = {name: dataset.in_memory() for name, dataset in datasets.items()}
    datasets = {name: _with_int32_labels(dataset) for name, dataset in datasets.items()}
    if few := checks.rare_classes(datasets["train"]):
        log.warning("%s", few)
    origin = {}
    for split in ("test", "validation"):
        origin[split] = OWN if split in datasets else HELD_OUT
        if split not in datasets:
            labels, size = datasets["train"].labels, config[split]
            rest, part = stratified_split(labels, size, config.split_seed, option=f"data.{split}")
            datasets |= {"train": datasets["train"].take(rest), split: datasets["train"].take(part)}
    limit = config.get("train", 0)
    if limit and limit != len(datasets["train"]):  # so many are all of them
        _, part = stratified_split(
            datasets["train"].labels, limit, config.split_seed, option="data.train"
        )
        datasets["train"] = datasets["train"].take(part)
    if each := config.get("drawn", 0):
        datasets["train"] = with_drawn(datasets["train"], each, seed=config.split_seed)
    datasets = {split: datasets[split] for split in ("train", "validation", "test")}
    return Splits(**datasets, report=checks.check(datasets) | {"origin": origin})


def _with_int32_labels(dataset: Dataset) -> Dataset:
    if dataset.labels.dtype == np.int32:
        return dataset
    return dataclasses.replace(dataset, labels=dataset.labels.astype(np.int32))
