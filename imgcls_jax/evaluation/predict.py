"""Predictions of a run's best model, and the files of the run that hold them."""

import math
import statistics
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from imgcls_jax import backend, trees
from imgcls_jax.data import Splits, device_budget
from imgcls_jax.data.image_files import Reader
from imgcls_jax.data.lazy_images import Images
from imgcls_jax.data.streaming import Streamed
from imgcls_jax.errors import RunError
from imgcls_jax.evaluation.scores import Predictions, score, softmax
from imgcls_jax.evaluation.strangeness import Outputs
from imgcls_jax.files import write_npz
from imgcls_jax.models.classifier import Classifier
from imgcls_jax.run.checkpoints import Checkpoints, shapes
from imgcls_jax.run.folder import CHECKPOINTS, CONFIG, PREDICTIONS, TEST, RunFolder
from imgcls_jax.training import adapt, metrics, phases
from imgcls_jax.training import checks as options
from imgcls_jax.training.initializer import Initializer
from imgcls_jax.training.inputs import place_images
from imgcls_jax.training.parallel import replicate
from imgcls_jax.training.setup import build_model, build_predict

MAX_BATCH_BYTES = 2**32  # of a batch of images after the transform
MAX_IMAGE_PIXELS = 2**24  # of an image after the transform
# Stored probabilities are multiples of this, the resolution of float32 at 1. All digits of the
# small probabilities would make the file six times as large.
RESOLUTION = 2.0**-24


class Predictor:
    """A `classifiers.Classifier` with the best model of a run; needs only the run's folder.

    batch_size: images at a time; None for `train.eval_batch_size` of the run.
    model, transform, variables: `model` applied to `variables` (host arrays, with low-rank pairs
      merged) and to what `transform` makes of images gives logits. `logits` averages them over
      the run's test-time views.
    step: of the checkpoint.
    parameters: their number, low-rank pairs included.
    trainable: the number of parameters that trained in the last phase.

    Raises RunError if the run is incomplete, damaged, or too large for any machine.
    """

    def __init__(self, run: RunFolder, *, batch_size: int | None = None):
        config = options.of_run(run)
        if batch_size is not None:
            config.train.eval_batch_size = batch_size
        data = run.data
        self.name = run.name
        self.class_names = tuple(data["class_names"])
        train = data["splits"]["train"]
        self.shape = tuple(train["shape"])
        self.reader = Reader.of(config.data, data)
        self.batch_size = config.train.eval_batch_size
        num_classes = len(self.class_names)
        self.model, self.transform = build_model(config, num_classes=num_classes)
        self._restore(run, config)
        self._placed_variables = replicate(self.variables)
        self._predict = build_predict(config, self.model, self.transform)
        self._predict_outputs = build_predict(
            config, self.model, self.transform, method=_encode_and_classify
        )
        self._data_config = config.data

    def _restore(self, run: RunFolder, config: ConfigDict) -> None:
        """Reads the best checkpoint into `variables`, and counts parameters."""
        images = jax.ShapeDtypeStruct((1, *self.shape), np.uint8)
        image = jax.eval_shape(self.transform, images)
        _check_batch(run, self.batch_size, image.shape[1:])
        initializer = Initializer(self.model, image, seed=0)
        model_state, params = flax.core.pop(initializer.shapes, "params")
        *_, last_phase = phases.of(config).values()
        adaptation = adapt.create(last_phase, self.model, params, image)
        params = jax.eval_shape(lambda params: adaptation.add_pairs(params, seed=0), params)
        trainable, _ = adaptation.split(params)
        self.trainable = trees.count(trainable)
        checkpoints = Checkpoints(run.path / CHECKPOINTS, read_only=True)
        expected = {"params": params, "model_state": model_state}
        self.step, restored = checkpoints.restore_best(shapes(expected))
        checkpoints.close()
        self.parameters = trees.count(restored["params"])
        merged = jax.device_get(adaptation.merge(restored["params"]))
        self.variables = {"params": merged, **restored["model_state"]}

    def logits(self, images: Images) -> np.ndarray:
        """Returns logits float32 [N, K] of images uint8 [N, H, W, C].

        Raises RunError if they are not finite.
        """
        logits = self._predict(self._placed_variables, self._place(images))
        self._check_finite(logits)
        return logits

    def outputs(self, images: Images) -> Outputs:
        """Returns features and logits of images uint8 [N, H, W, C].

        Both are means over the run's test-time views. Raises RunError if they are not finite.
        """
        columns = self._predict_outputs(self._placed_variables, self._place(images))
        self._check_finite(columns)
        num_classes = len(self.class_names)
        return Outputs(features=columns[:, :-num_classes], logits=columns[:, -num_classes:])

    def _place(self, images: Images) -> jax.Array | Streamed:
        budget = device_budget(self._data_config, images.nbytes)
        return place_images(images, budget=budget)

    def _check_finite(self, logits: np.ndarray) -> None:
        """Raises RunError if the figures of an image, [N, ...], are not finite."""
        not_finite = ~np.isfinite(logits).all(-1)
        if not_finite.any():
            raise RunError(
                f"{self.name}: its weights give figures that are not finite for "
                f"{not_finite.sum():,} of {len(logits):,} images, since its training diverged. "
                "Train it again with a lower learning rate, under another --config.name."
            )

    def probabilities(self, images: Images) -> np.ndarray:
        """Returns probabilities float64 [N, K] of images uint8 [N, H, W, C]."""
        return softmax(self.logits(images))


def _encode_and_classify(model: Classifier, x: jax.Array, *, train: bool) -> jax.Array:
    """Returns the pooled features of images and their logits side by side, [B, F + K]."""
    features = model.encode(x, train=train)
    logits = model.head(features, train=train)
    return jnp.concatenate([features, logits], axis=-1)


def _check_batch(
    run: RunFolder,
    batch_size: int,
    shape: tuple[int, ...],
) -> None:
    """Raises RunError if a batch of transformed images needs more memory than any run has.

    shape: [H, W, C] of an image after the transform.
    """
    size = 4 * batch_size * math.prod(shape)
    height, width = shape[:2]
    if size > MAX_BATCH_BYTES or height * width > MAX_IMAGE_PIXELS:
        raise RunError(
            f"{run.path / CONFIG}: data.transform and train.eval_batch_size ask for batches of "
            f"{batch_size:,} images of {height:,} x {width:,} pixels, {size / 2**30:,.1f} GiB. At "
            f"most {MAX_BATCH_BYTES / 2**30:.0f} GiB, of images of {MAX_IMAGE_PIXELS:,} pixels, "
            "are accepted: lower train.eval_batch_size there."
        )


def test(run: RunFolder, data: Splits) -> None:
    """Tests the run: writes predictions.npz and test.json.

    predictions.npz holds the predictions on the test and validation sets; test.json the scores on
    the test set and a summary of the training.
    """
    predictor = Predictor(run)
    logits = predictor.logits(data.test.images)
    labels = data.test.labels
    validation = _predict_validation(predictor, data)
    write_predictions(run, (softmax(logits), labels), validation)
    scores = metrics.evaluate(logits, labels) | score(logits, labels, data.test.class_names)
    run.write_json(TEST, scores | _training_summary(run, predictor))


def add_validation(run: RunFolder, data: Splits) -> None:
    """Adds the validation predictions that older versions did not keep to predictions.npz."""
    validation = _predict_validation(Predictor(run), data)
    write_predictions(run, run.predictions, validation)


def _predict_validation(predictor: Predictor, data: Splits) -> Predictions:
    probabilities = predictor.probabilities(data.validation.images)
    return probabilities, data.validation.labels


def write_predictions(
    run: RunFolder,
    test: Predictions,
    validation: Predictions | None,
) -> None:
    """Writes predictions.npz, which holds the predictions on the test and validation sets."""
    arrays = _arrays(test, prefix="")
    if validation is not None:
        arrays |= _arrays(validation, prefix="validation_")
    write_npz(run.path / PREDICTIONS, **arrays)


def _arrays(predictions: Predictions, *, prefix: str) -> dict[str, np.ndarray]:
    probabilities, labels = predictions
    rounded = np.round(probabilities / RESOLUTION) * RESOLUTION
    return {
        f"{prefix}probabilities": rounded.astype(np.float32),
        f"{prefix}labels": labels,
    }


def _training_summary(run: RunFolder, predictor: Predictor) -> dict[str, Any]:
    history = run.history
    best = next(line for line in history if line["step"] == predictor.step)
    seconds = [line["seconds"] for line in history]
    return {
        "best_epoch": best["epoch"],
        "best_step": best["step"],
        "train_accuracy": best["train_accuracy"],  # while training: augmented, with dropout
        **metrics.with_prefix("validation_", metrics.without_prefix("validation_", best)),
        "epochs": len(history),
        "parameters": predictor.parameters,
        "trainable": predictor.trainable,
        "train_seconds": sum(seconds),
        "peak_memory": backend.peak_memory(),  # bytes; of this process, which trained last
        "seconds_per_epoch": statistics.median(seconds),  # the first includes compilation
    }
