"""From `config.data` to checked training, validation and test sets."""

import dataclasses

import numpy as np
from ml_collections import ConfigDict

from imgcls_jax.data import checks
from imgcls_jax.data.dataset import SPLIT_NAMES, Dataset, Datasets
from imgcls_jax.data.sources import SOURCES
from imgcls_jax.data.splits import stratified_fold, stratified_share, stratified_split
from imgcls_jax.errors import choose

# Where a split comes from, in the data report.
OWN = "the source's own"
HELD_OUT = "held out of the training images"


@dataclasses.dataclass(frozen=True)
class Splits:
    """The three splits of a data set, without overlap, and the data report of checks.py.

    digests: of the images of each split, uint64 [N], as `checks.image_digests` has them.
    """

    train: Dataset
    validation: Dataset
    test: Dataset
    report: dict
    digests: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

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


def device_budget(config: ConfigDict, nbytes: int) -> float | None:
    """Returns `config.device_bytes` if images of `nbytes` are larger, else None.

    config: `config.data` of a run.
    """
    if nbytes > config.device_bytes:
        return config.device_bytes
    return None


def load(config: ConfigDict, *, quick: float = 0.0, keep: bool = True) -> Splits:
    """Reads the data that `config.data` names, checks it and splits it.

    The test set is the source's own, or `config.test_size` of its training set if it has none. The
    validation set is the source's own, or `config.validation_size` of the rest. With `config.folds`
    the test set is a fold of the training set, and the source's own stays unread. The training set is
    `config.train_size` of what is left then, with `config.drawn` drawn images of each digit. The
    report's `origin` says where validation and test set come from. Images of more bytes than
    `config.device_bytes` stay in their files as LazyImages.

    quick: share of each set that is taken in the end, for a trial; 0 takes all.
    keep: whether decoded data is kept in `config.cache` and missing TFDS data is prepared. A config
    that comes from somebody else names folders of their choice: without `keep` nothing is written.

    Raises DataError for data that is missing, damaged or not fit to train on, ConfigError for
    options that do not fit the data.
    """
    read = choose("data source", config.source, SOURCES)
    config = config.copy_and_resolve_references()
    datasets = read(config, keep=keep)
    checks.validate(datasets)
    nbytes = sum(dataset.images.nbytes for dataset in datasets.values())
    if device_budget(config, nbytes) is None:
        datasets = {name: dataset.in_memory() for name, dataset in datasets.items()}
    datasets = {name: _with_int32_labels(dataset) for name, dataset in datasets.items()}
    rare_class_warnings = checks.rare_class_warnings(datasets["train"])

    origin = {}
    if config.folds:
        origin["test"] = HELD_OUT
        datasets["train"], datasets["test"] = _take_fold(datasets["train"], config)
    for split in ("test", "validation"):
        if split in origin:
            continue
        if split in datasets:
            origin[split] = OWN
        else:
            origin[split] = HELD_OUT
            datasets["train"], datasets[split] = _hold_out(
                datasets["train"], f"{split}_size", config
            )
    datasets["train"] = _training_set(datasets["train"], config)
    datasets = {split: datasets[split] for split in SPLIT_NAMES}
    if quick:
        for split, dataset in datasets.items():
            share = stratified_share(dataset.labels, quick, config.split_seed)
            datasets[split] = dataset.take(share)
    report, digests = checks.check_with_digests(datasets)
    report["warnings"] = [*rare_class_warnings, *report["warnings"]]
    report["origin"] = origin
    return Splits(**datasets, report=report, digests=digests)


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


def _training_set(train: Dataset, config: ConfigDict) -> Dataset:
    """Returns `config.train_size` of the training set, and `config.drawn` drawn images of each digit."""
    size = config.train_size
    if size and size != len(train):
        _, train = _hold_out(train, "train_size", config)
    if config.drawn:
        # Imported here, so that `python -m imgcls_jax.data.drawn` does not import it twice.
        from imgcls_jax.data.drawn import with_drawn

        train = with_drawn(train, config.drawn, seed=config.split_seed)
    return train
