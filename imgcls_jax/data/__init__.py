"""From `config.data` to checked training, validation and test sets."""

import dataclasses
import os
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from imgcls_jax.data import checks, corrections, folder
from imgcls_jax.data.corrections import Corrections
from imgcls_jax.data.dataset import SPLIT_NAMES, Dataset, Datasets, log_unused
from imgcls_jax.data.sources import SOURCES
from imgcls_jax.data.splits import (
    long_tailed,
    stratified_fold,
    stratified_share,
    stratified_split,
)
from imgcls_jax.errors import DataError, choose

# Where a split comes from, in the data report.
OWN = "the source's own"
HELD_OUT = "held out of the training images"


@dataclasses.dataclass(frozen=True)
class Splits:
    """The three splits of a data set, without overlap, and the data report of checks.py.

    digests: of the images of each split, uint64 [N], as `checks.image_digests` has them.
    corrections: those that were made, if any.
    """

    train: Dataset
    validation: Dataset
    test: Dataset
    report: dict
    digests: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    corrections: Corrections | None = None

    @property
    def fingerprint(self) -> str:
        """One SHA-256 of the fingerprints of the three splits."""
        return checks.fingerprint(self._datasets)

    @property
    def nbytes(self) -> int:
        """The bytes of the images of all three splits."""
        return sum(dataset.images.nbytes for dataset in self._datasets.values())

    @property
    def _datasets(self) -> Datasets:
        return {"train": self.train, "validation": self.validation, "test": self.test}


@dataclasses.dataclass(frozen=True)
class Source:
    """The data sets of a source by split, before anything is held out.

    indices: int64 [N] of each split, where its images are in the source. corrections: those that
    were made, if any.
    """

    datasets: Datasets
    indices: dict[str, np.ndarray]
    corrections: Corrections | None = None


def device_budget(config: ConfigDict, nbytes: int) -> float | None:
    """Returns `config.device_bytes` if images of `nbytes` are larger, else None.

    config: `config.data` of a run.
    """
    if nbytes > config.device_bytes:
        return config.device_bytes
    return None


def load(config: ConfigDict, *, quick: float = 0.0, keep: bool = True) -> Splits:
    """Reads the data that `config.data` names, checks it and splits it.

    The test set is the source's own, or `config.test_size` of its training set if it has none. With
    `config.folds` it is a fold of the training set, and the source's own stays unread. Of the rest
    `config.long_tail` may keep fewer of each further class. The validation set is the source's own, or
    `config.validation_size` of what is kept. The training set is
    `config.train_size` of what is left then, with `config.drawn` drawn images of each digit. The
    report's `origin` says where validation and test set come from. Images of more bytes than
    `config.device_bytes` stay in their files as LazyImages. `config.corrections` are made last, so
    that the same images are held out with them and without.

    quick: share of each set that is taken in the end, for a trial; 0 takes all.
    keep: whether decoded data is kept in `config.cache` and missing TFDS data is prepared. A config
    that comes from somebody else names folders of their choice: without `keep` nothing is written.

    Raises DataError for data that is missing, damaged or not fit to train on, ConfigError for
    options that do not fit the data.
    """
    config = config.copy_and_resolve_references()
    datasets, lines = _read(config, keep=keep)
    source = _source(datasets, lines)
    rare_class_warnings = checks.rare_class_warnings(
        source.datasets["train"],
        source.indices["train"],
        held_out="validation" not in datasets,
    )

    origin = {}
    if config.folds:
        origin["test"] = HELD_OUT
        if "test" in datasets:
            log_unused(config.name or config.source, ["its own test set"], "the test set is a fold")
        datasets["train"], datasets["test"] = _take_fold(datasets["train"], config)
    for split in ("test", "validation"):
        if split in origin:
            continue
        if split == "validation" and config.long_tail > 1:
            train = datasets["train"]
            kept = long_tailed(train.labels, config.long_tail, config.split_seed)
            datasets["train"] = train.take(kept)
        if split in datasets:
            origin[split] = OWN
        else:
            origin[split] = HELD_OUT
            datasets["train"], datasets[split] = _hold_out(
                datasets["train"], f"{split}_size", config
            )
    if config.train_size and config.train_size != len(datasets["train"]):
        _, datasets["train"] = _hold_out(datasets["train"], "train_size", config)
    datasets = {split: datasets[split].correct() for split in SPLIT_NAMES}
    datasets["train"] = _with_drawn(datasets["train"], config)
    if quick:
        for split, dataset in datasets.items():
            share = stratified_share(dataset.labels, quick, config.split_seed)
            datasets[split] = dataset.take(share)
    report, digests = checks.check_with_digests(datasets)
    report["warnings"] = [*rare_class_warnings, *report["warnings"]]
    report["origin"] = origin
    if lines:
        report["corrections"] = lines.report
    return Splits(**datasets, report=report, digests=digests, corrections=lines)


def read(config: ConfigDict, *, keep: bool = True) -> Source:
    """Reads the data that `config.data` names and checks it, with the splits of its source.

    Labels and images are those of `config.corrections`, where it is given. keep: as of `load`.
    Raises as `load` does.
    """
    return _source(*_read(config, keep=keep))


def read_readable(config: ConfigDict, *, keep: bool = True) -> tuple[Source, dict[Path, str]]:
    """Reads as `read` does, and leaves out the files of a folder that are no readable images.

    These are returned with the reasons. Training refuses them.
    """
    try:
        return read(config, keep=keep), {}
    except DataError:
        if config.source != "folder":
            raise
        splits = folder.find_images(Path(os.path.expanduser(config.path)).resolve())
        broken = folder.unreadable(splits)
        num_files = len(folder.image_paths(splits.values()))
        if not broken or len(broken) == num_files:
            raise
    for classes in splits.values():
        for name, files in classes.items():
            classes[name] = [file for file in files if file not in broken]
    datasets = folder.read_folder(splits, image_size=config.image_size, fit=config.fit)
    return _source(*_prepare(config, datasets)), broken


def _read(config: ConfigDict, *, keep: bool) -> tuple[Datasets, Corrections | None]:
    """Returns the data sets of the source, with corrections that are not made yet."""
    read_source = choose("data source", config.source, SOURCES)
    return _prepare(config, read_source(config, keep=keep))


def _prepare(config: ConfigDict, datasets: Datasets) -> tuple[Datasets, Corrections | None]:
    """Checks data sets as their source has them, and gives them their corrections."""
    checks.validate(datasets)
    nbytes = sum(dataset.images.nbytes for dataset in datasets.values())
    if device_budget(config, nbytes) is None:
        datasets = {name: dataset.in_memory() for name, dataset in datasets.items()}
    datasets = {name: _with_int32_labels(dataset) for name, dataset in datasets.items()}
    if not config.corrections:
        return datasets, None
    lines = corrections.read(config.corrections)
    return corrections.add(lines, datasets), lines


def _source(datasets: Datasets, lines: Corrections | None) -> Source:
    """Makes the corrections of what `_prepare` returns."""
    indices = {}
    corrected = {}
    for name, dataset in datasets.items():
        indices[name] = np.arange(len(dataset))
        if dataset.corrected is not None:
            indices[name] = np.flatnonzero(dataset.corrected >= 0)
        corrected[name] = dataset.correct()
    if lines:
        checks.validate(corrected)  # again: all images of a split may have been left out
    return Source(corrected, indices, lines)


def _with_int32_labels(dataset: Dataset) -> Dataset:
    if dataset.labels.dtype == np.int32:
        return dataset
    return dataclasses.replace(dataset, labels=dataset.labels.astype(np.int32))


def _hold_out(train: Dataset, option: str, config: ConfigDict) -> tuple[Dataset, Dataset]:
    """Splits as many examples off the training set as an option of the config says."""
    rest, part = stratified_split(
        train.labels, config[option], config.split_seed, option=f"data.{option}"
    )
    return train.take(rest), train.take(part)


def _take_fold(train: Dataset, config: ConfigDict) -> tuple[Dataset, Dataset]:
    """Splits the fold `config.fold` off the training set."""
    rest, part = stratified_fold(
        train.labels, fold=config.fold, folds=config.folds, seed=config.split_seed
    )
    return train.take(rest), train.take(part)


def _with_drawn(train: Dataset, config: ConfigDict) -> Dataset:
    """Returns the training set with `config.drawn` drawn images of each digit."""
    if not config.drawn:
        return train
    # Imported here, so that `python -m imgcls_jax.data.drawn` does not import it twice.
    from imgcls_jax.data.drawn import with_drawn

    return with_drawn(train, config.drawn, seed=config.split_seed)
