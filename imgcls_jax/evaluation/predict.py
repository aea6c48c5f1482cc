"""A run's best model on images."""

import math
import statistics
from typing import Any

import jax
import numpy as np

from imgcls_jax import backend, trees
from imgcls_jax.data import Splits, device_budget
from imgcls_jax.data.image_files import Reader
from imgcls_jax.data.lazy_images import Images
from imgcls_jax.errors import RunError
from imgcls_jax.evaluation.scores import score, softmax
from imgcls_jax.files import write_npz
from imgcls_jax.run.checkpoints import Checkpoints, shapes
from imgcls_jax.run.folder import CHECKPOINTS, CONFIG, PREDICTIONS, TEST, RunFolder
from imgcls_jax.training import adapt, phases, steps
from imgcls_jax.training import checks as options
from imgcls_jax.training.setup import build_model, build_predict

MOST_BATCH = 2**32  # bytes of a batch of images as the model sees them
MOST_PIXELS = 2**24  # of such an image


class Predictor:
    """The best model of a run; needs nothing but the run's folder.

    shape: (H, W, C) of its images; reader: makes such of people's files. `model` applied to `variables`, host arrays,
    low-rank pairs merged, gives the logits of what `transform` makes of images; `logits` averages them over the run's
    views.
    """

    def __init__(self, run: RunFolder):
        config, data = options.of_run(run), run.data
        self.name = run.name
        self.class_names = tuple(data["class_names"])
        self.shape = tuple(data["splits"]["train"]["shape"])
        self.reader, self.batch_size = Reader.of(config.data, data), config.train.eval_batch_size
        self.model, self.transform = build_model(config, num_classes=len(self.class_names))
        params, model_state = jax.eval_shape(
            lambda: steps.initialize(
                self.model, self.transform, np.zeros((1, *self.shape), np.uint8), seed=0
            )
        )
        image = jax.eval_shape(self.transform, jax.ShapeDtypeStruct((1, *self.shape), np.uint8))
        _check_batch(run, self.batch_size, image.shape[1:])
        last = list(phases.of(config).values())[-1]
        adaptation, params = adapt.create(last, self.model, params, image, seed=0)
        self.trainable = trees.count(
            adaptation.split(params)[0]
        )  # parameters that trained, in the last phase
        expected = {"params": params, "model_state": model_state}
        checkpoints = Checkpoints(run.path / CHECKPOINTS, read_only=True)
        self.step, restored = checkpoints.restore_best(shapes(expected))
        checkpoints.close()
        self.parameters = trees.count(restored["params"])  # pairs included
        merged = jax.device_get(adaptation.merge(restored["params"]))
        self.variables = {"params": merged, **restored["model_state"]}
        self._placed = steps.replicate(self.variables)
        self._predict, self._data = build_predict(config, self.model, self.transform), config.data

    def logits(self, images: Images) -> np.ndarray:
        """images uint8 [N, H, W, C] -> logits float32 [N, K]. Raises RunError where they are not finite."""
        placed = steps.place_images(images, budget=device_budget(self._data, images.nbytes))
        logits = self._predict(self._placed, placed)
        if bad := int((~np.isfinite(logits)).any(-1).sum()):
            raise RunError(
                f"{self.name}: the weights that were kept give figures that are not finite for {bad:,} of "
                f"{len(logits):,} images, since its training diverged. Train it again with a lower learning rate, "
                "under another --config.name."
            )
        return logits

    def probabilities(self, images: Images) -> np.ndarray:
        """images uint8 [N, H, W, C] -> probabilities float64 [N, K]."""
        return softmax(self.logits(images))


def _check_batch(run: RunFolder, batch_size: int, shape: tuple[int, ...]) -> None:
    """Raises RunError where a batch of what the model sees would take more memory than any run has.

    shape: [H, W, C] of an image after the transform.
    """
    size, pixels = 4 * batch_size * math.prod(shape), math.prod(shape[:2])
    if size > MOST_BATCH or pixels > MOST_PIXELS:
        raise RunError(
            f"{run.path / CONFIG}: data.transform and train.eval_batch_size ask for batches of {batch_size:,} images "
            f"of {shape[0]:,} x {shape[1]:,} pixels, {size / 2**30:,.1f} GiB. At most {MOST_BATCH / 2**30:.0f} GiB, of "
            f"images of {MOST_PIXELS:,} pixels, are accepted: lower train.eval_batch_size there."
        )


def test(run: RunFolder, data: Splits) -> None:
    """Writes the run's predictions on test and validation set, and its test.json: the figures of the test set, and a
    summary of the training."""
    predictor = Predictor(run)
    logits = predictor.logits(data.test.images)
    validation = predictor.probabilities(data.validation.images), data.validation.labels
    write(run, (softmax(logits), data.test.labels), validation)
    run.write_json(
        TEST, score(logits, data.test.labels, data.test.class_names) | _summary(run, predictor)
    )


def add_validation(run: RunFolder, data: Splits) -> None:
    """Adds the predictions on the validation set to those of a run of a version that did not keep them."""
    write(
        run,
        run.predictions,
        (Predictor(run).probabilities(data.validation.images), data.validation.labels),
    )


def write(
    run: RunFolder,
    test: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray] | None,
) -> None:
    """Writes predictions.npz: (probabilities [N, K], labels [N]) of the test set, and the validation set's if given."""
    arrays = {}
    for prefix, (probabilities, labels) in {
        "": test,
        "validation_": validation or (None, None),
    }.items():
        if probabilities is not None:
            # To the resolution of float32 at 1: the many digits of the improbable would make the file six times as big.
            arrays[f"{prefix}probabilities"] = (np.round(probabilities * 2**24) / 2**24).astype(
                np.float32
            )
            arrays[f"{prefix}labels"] = labels
    write_npz(run.path / PREDICTIONS, **arrays)


def _summary(run: RunFolder, predictor: Predictor) -> dict[str, Any]:
    history = run.history
    best = next(line for line in history if line["step"] == predictor.step)
    seconds = [line["seconds"] for line in history]
    return {
        "best_epoch": best["epoch"],
        "best_step": best["step"],
        "train_accuracy": best["train_accuracy"],  # while training: augmented, with dropout
        "validation_accuracy": best["validation_accuracy"],
        "validation_loss": best["validation_loss"],
        "epochs": len(history),
        "parameters": predictor.parameters,
        "trainable": predictor.trainable,
        "train_seconds": sum(seconds),
        "peak_memory": backend.peak_memory(),  # bytes; of the process that tested, which is the one that trained last
        "seconds_per_epoch": statistics.median(seconds),  # the first epoch's include compilation
    }
