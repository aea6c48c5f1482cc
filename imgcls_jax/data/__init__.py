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
        return checks.fingerprint({"train": self.train, "validation": self.validation, "test": self.test})

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
    The test set is the source's own, or `config.test` of its training set where it has none; the validation set is
    `config.validation` of what is then left for training, the training set `config.train` of what is then left, with
    `config.drawn` drawn images of each digit.

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
    train, test = datasets["train"], datasets.get("test")
    if few := checks.rare_classes(train):
        log.warning("%s", few)
    if test is None:
        rest, part = stratified_split(train.labels, config.test, config.split_seed, option="data.test")
        train, test = train.take(rest), train.take(part)
    rest, part = stratified_split(train.labels, config.validation, config.split_seed, option="data.validation")
    train, validation = train.take(rest), train.take(part)
    limit = config.get("train", 0)
    if limit and limit != len(train):  # so many are all of them
        _, part = stratified_split(train.labels, limit, config.split_seed, option="data.train")
        train = train.take(part)
    if each := config.get("drawn", 0):
        train = with_drawn(train, each, seed=config.split_seed)
    report = checks.check({"train": train, "validation": validation, "test": test})
    return Splits(train=train, validation=validation, test=test, report=report)


def _with_int32_labels(dataset: Dataset) -> Dataset:
    if dataset.labels.dtype == np.int32:
        return dataset
    return dataclasses.replace(dataset, labels=dataset.labels.astype(np.int32))
