"""What a finished run comes to, without its times: equal for two runs that trained alike, whatever befell them."""

import csv
import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from tests.faults.processes import FORKING

# What is measured anew each time.
TIMES = (
    "seconds",
    "images_per_second",
    "train_seconds",
    "seconds_per_epoch",
    "device",
    "latency",
    "peak_memory",
)
PICTURES = ("curves.png", "confusion.png", "samples.png", "mistakes.png", "calibration.png")


def of(folder: Path) -> dict[str, Any]:
    """Of a finished run. Raises whatever reading the folder does."""
    with ProcessPoolExecutor(
        1, mp_context=FORKING
    ) as forked:  # this process need not import JAX and TensorFlow
        return forked.submit(_of, folder).result()


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The names of what differs."""
    return [key for key in one | other if one.get(key) != other.get(key)]


def of_table(folder: Path) -> list[dict[str, str]]:
    """Of a study: the rows of its table.csv."""
    with open(folder / "table.csv") as file:
        return [_without_times(row) for row in csv.DictReader(file)]


def _of(folder: Path) -> dict[str, Any]:
    from absl import logging

    from imgcls_jax import trees
    from imgcls_jax.run.folder import RunFolder

    logging.set_verbosity(logging.ERROR)  # Orbax warns of each folder that it only reads
    run = RunFolder(folder)
    history, arrays = run.history, [*run.predictions, *run.validation_predictions]
    newest, saved = _newest(folder)
    return {
        "best model": _best(folder),
        "newest checkpoint": (newest, saved),
        "metrics.jsonl": [_without_times(line) for line in history],
        "each step once": [line["epoch"] for line in history] == list(range(1, len(history) + 1)),
        "durations": all(line["seconds"] > 0 for line in history) and run.test["train_seconds"] > 0,
        "test.json": _without_times(run.test),
        "calibration.json": run.read_json("calibration.json"),
        "predictions": [trees.digest(array) for array in arrays],
        "pictures": {
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in PICTURES
        },
        "report.html": f"{100 * run.test['accuracy']:.2f} %"
        in (folder / "report.html").read_text(),
        "TensorBoard": _tensorboard(folder),
        "left over": [
            path.name for path in folder.rglob("*") if "partial" in path.name or "-tmp" in path.name
        ],
    }


def _without_times(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in figures.items() if key not in TIMES}


def _best(folder: Path) -> tuple[int, str]:
    """Step and digest of the parameters that prediction takes."""
    from imgcls_jax import trees
    from imgcls_jax.run.checkpoints import Checkpoints

    checkpoints = Checkpoints(folder / "checkpoints", read_only=True)
    step, model = checkpoints.restore_best()
    checkpoints.close()
    return step, trees.digest(model)


def _newest(folder: Path) -> tuple[int, dict[str, str]]:
    """Step and verified digests of the state that training would go on from."""
    from imgcls_jax.run.checkpoints import Checkpoints

    steps = [
        int(child.name) for child in (folder / "checkpoints").iterdir() if child.name.isdigit()
    ]
    checkpoints = Checkpoints(folder / "checkpoints")
    restored = checkpoints.restore(lambda progress: {"model": None, "training": None})
    checkpoints.close()
    assert restored and restored[0] == max(steps), "the newest checkpoint is damaged"
    metadata = folder / "checkpoints" / str(max(steps)) / "progress" / "metadata"
    hashes = json.loads(metadata.read_text())["hashes"]
    return max(steps), {name: hashes[name] for name in ("model", "training")}


def _tensorboard(folder: Path) -> dict[str, list[int]]:
    """The steps of each tag, as they stand there."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    return {
        tag: [event.step for event in events.Tensors(tag)]
        for tag in sorted(events.Tags()["tensors"])
    }
