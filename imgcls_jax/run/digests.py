"""Digests of a run's training and validation images, by which copies of them are known again."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from imgcls_jax import files, foreign
from imgcls_jax.run import schema
from imgcls_jax.run.ensemble_folder import EnsembleFolder, voters
from imgcls_jax.run.folder import ENSEMBLE, RunFolder

DIGESTS = "image_digests.npz"
SPLITS = ("train", "validation")  # whose images training has used


def write(run: RunFolder, digests: Mapping[str, np.ndarray]) -> None:
    """Writes image_digests.npz, from the digests, uint64 [N], of the images of all splits."""
    arrays = {split: digests[split] for split in SPLITS}
    files.write_npz(run.path / DIGESTS, **arrays)


def read(run: RunFolder) -> dict[str, np.ndarray]:
    """Returns the digests, uint64 [N], of the training and validation images, by split.

    Empty in folders of versions that did not keep them, and of published runs. Raises RunError if
    the file is damaged.
    """
    file = run.path / DIGESTS
    if not file.exists():
        return {}
    run.check_plain()
    digests = _read_arrays(file)
    for array in digests.values():
        if array.dtype != np.uint64 or array.ndim != 1:
            raise schema.damaged(file, "it should hold digests of 8 bytes")
    return digests


def learned_before(config: ConfigDict, digests: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Returns how many validation and test images the sources of a run have learned from, by split.

    Sources are the runs whose weights it takes, and its teacher or the members of that. Validation
    images are counted that trained one of them, test images also if they chose its weights; those
    that the run itself trains on or chooses by are not. Splits without such images are left out, and
    so are sources that kept no digests.

    digests: uint64 [N], of the images of all splits of the run.
    """
    counts = dict.fromkeys(("validation", "test"), 0)
    own = digests["train"]
    for run in _sources(config):
        learned = read(run)
        if not learned:
            continue
        trained = np.setdiff1d(learned["train"], own)
        chosen = np.setdiff1d(learned["validation"], np.concatenate([own, digests["validation"]]))
        used = {"validation": trained, "test": np.concatenate([trained, chosen])}
        for split, known in used.items():
            count = int(np.isin(digests[split], known).sum())
            counts[split] = max(counts[split], count)
    return {split: count for split, count in counts.items() if count}


def warnings(report: Mapping[str, Any]) -> list[str]:
    """Returns a sentence for each split that `learned_before` counts in a data report."""
    sentences = []
    for split, count in report["learned_before"].items():
        total = report["splits"][split]["examples"]
        sentences.append(
            f"{count:,} of {total:,} {split} images ({100 * count / total:.2f} %) had a part in the "
            f"training of a run that this one starts or learns from: its {split} figures are too good. "
            "Give both the same config.data.split_seed, sizes and fold."
        )
    return sentences


def _sources(config: ConfigDict) -> Iterator[RunFolder]:
    """The runs from which a run of the config starts, and those from which it learns."""
    if pretrained := config.model.get("pretrained"):
        for source in pretrained.split(","):
            yield RunFolder(source.strip())
    if teacher := (config.get("objective") or {}).get("teacher"):
        folder = EnsembleFolder(teacher)
        if not (folder.path / ENSEMBLE).exists():
            yield RunFolder(teacher)
            return
        for member in voters(folder.summary):
            yield RunFolder(folder.path / member["run"])


def _read_arrays(file: Path) -> dict[str, np.ndarray]:
    try:
        with foreign.open_npz(file) as arrays:
            return {split: arrays[split] for split in SPLITS}
    except Exception as error:  # a damaged file can raise nearly anything
        raise schema.damaged(file, error) from error
