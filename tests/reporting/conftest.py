"""A small synthetic run, as training would leave it."""

import numpy as np
import pytest

from imgcls_jax.data.dataset import Dataset
from imgcls_jax.evaluation.scores import score, softmax
from imgcls_jax.run.folder import CONFIG, DATA, ENVIRONMENT, PREDICTIONS, TEST, RunFolder

CLASSES = ("automobile", "<b>cat & dog</b>", "costs $5 or $6")


@pytest.fixture
def make_dataset():
    """make_dataset(examples, shape, class_names): random images, labels in turn."""

    def make(examples: int = 60, *, shape=(8, 8, 1), class_names=CLASSES) -> Dataset:
        random = np.random.default_rng(examples)
        images = random.integers(0, 256, (examples, *shape)).astype(np.uint8)
        labels = np.arange(examples, dtype=np.int32) % len(class_names)
        return Dataset(images, labels, tuple(class_names))

    return make


@pytest.fixture
def history():
    """history(epochs): lines of metrics.jsonl."""

    def make(epochs: int) -> list[dict]:
        return [
            {
                "epoch": epoch,
                "step": 100 * epoch,
                "train_loss": 1 / epoch,
                "train_accuracy": 1 - 0.5 / epoch,
                "validation_loss": 1.1 / epoch,
                "validation_accuracy": 0.98 - 0.5 / epoch,
                "learning_rate": 1e-3,
                "seconds": 2.5,
                "images_per_second": 1000.0,
            }
            for epoch in range(1, epochs + 1)
        ]

    return make


@pytest.fixture
def make_run(tmp_path, history):
    """make_run(test, name=, seed=, changes=, results=): a finished run's folder whose predictions are of `test`.

    changes: of config.json, by section; results: of test.json.
    """

    def make(
        test: Dataset, *, name="small", seed=0, changes=None, results=None, device="cpu"
    ) -> RunFolder:
        run = RunFolder(tmp_path / name)
        run.path.mkdir(parents=True)
        classes = len(test.class_names)
        noise = np.random.default_rng(seed).normal(size=(len(test), classes))
        logits = noise + 2 * np.eye(classes)[test.labels]
        probabilities = softmax(logits).astype(np.float32)
        np.savez(run.path / PREDICTIONS, probabilities=probabilities, labels=test.labels)
        config = {
            "name": name,
            "seed": seed,
            "data": {"source": "digits", "name": "made & up", "path": None},
            "model": {"name": "cnn", "filters": [32, 64]},
            "optimizer": {"name": "adam", "learning_rate": 1e-3},
            "train": {"monitor": "accuracy"},
        }
        for section, values in (changes or {}).items():
            config[section] |= values
        run.write_json(CONFIG, config)
        run.write_history(history(4))
        scores = score(logits, test.labels, test.class_names)
        scores |= {
            "best_epoch": 3,
            "epochs": 4,
            "parameters": 93322,
            "seconds_per_epoch": 2.5,
            "train_seconds": 75.0,
            "validation_accuracy": 0.97,
            "validation_loss": 0.11,
        }
        run.write_json(TEST, scores | (results or {}))
        split = {
            "examples": len(test),
            "shape": list(test.images.shape[1:]),
            "dtype": "uint8",
            "missing": 0,
            "pixel_mean": 33.318,
            "fingerprint": "c0ffee" * 10,
            "class_counts": np.bincount(test.labels, minlength=classes).tolist(),
        }
        run.write_json(
            DATA,
            {
                "class_names": list(test.class_names),
                "fingerprint": "f00d",
                "splits": {"train": split, "test": split},
            },
        )
        run.write_json(
            ENVIRONMENT,
            {
                "command": "python launch.py --config=configs/<small>.py",
                "device": device,
                "device_count": 2,
                "versions": {"jax": "0.10.2"},
            },
        )
        return run

    return make
