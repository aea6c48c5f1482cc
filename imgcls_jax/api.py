"""The Python API: five functions that load a config, train it, and use the run.

`imgcls_jax` exports them; launch.py and the commands call them too.

    import imgcls_jax

    config = imgcls_jax.load_config("configs/quickstart.py", train={"epochs": 5})
    run = imgcls_jax.train(config, "runs/five_epochs")
    scores = imgcls_jax.evaluate(run)
    for prediction in imgcls_jax.predict(run, ["photo.jpg"]):
        print(prediction.class_name, prediction.confidence)

What these functions report while they work goes to the logger "imgcls_jax" at level INFO.
"""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from imgcls_jax import backend, data, distributed, files, pretrained
from imgcls_jax.commands import overrides, runs
from imgcls_jax.config import reads, trial
from imgcls_jax.config.options import flat_options
from imgcls_jax.data import checks as data_checks
from imgcls_jax.data import image_files
from imgcls_jax.errors import ConfigError, DataError
from imgcls_jax.evaluation import classifiers, teacher
from imgcls_jax.evaluation import predict as prediction
from imgcls_jax.evaluation.classifiers import Classifier
from imgcls_jax.evaluation.images import Prediction, classify, classify_images
from imgcls_jax.evaluation.scores import score
from imgcls_jax.run import digests, resuming
from imgcls_jax.run.folder import (
    CALIBRATION,
    CONFIG,
    CORRECTIONS,
    DATA,
    ENVIRONMENT,
    EXPLANATION,
    MLFLOW,
    PREDICTIONS,
    ROBUSTNESS,
    TEACHER,
    TEST,
    TRACKER,
    UNKNOWN,
    RunFolder,
)
from imgcls_jax.training import checks as options
from imgcls_jax.training import loop, recorder

log = logging.getLogger(__name__)

# What an attempt without a checkpoint leaves may be of another teacher, or of other weights.
LEFT_BEHIND = (TEACHER, TRACKER, MLFLOW, TEST, CALIBRATION, EXPLANATION, ROBUSTNESS, UNKNOWN)
Run = RunFolder | str | os.PathLike[str]


def load_config(path: str | os.PathLike[str], **changes: Any) -> ConfigDict:
    """Returns the config of a config file, with some of its options changed.

        load_config("configs/mnist_cnn.py", seed=1, optimizer={"learning_rate": 0.002})
        load_config("configs/own_photos.py:photos", **{"train.batch_size": 8})

    Args:
      path: a file with a function `get_config()`; what follows a colon is its argument.
      **changes: new values of options, by their path or as nested dicts. With another
        `model.name` the options of `model` are those of that model.

    Returns:
      The config. Its `name` is the file's, unless the file or `changes` give one.

    Raises:
      ConfigError: there is no such file, or a change is of no option or of another type.
    """
    changed = flat_options(changes)
    config = overrides.read(os.fspath(path), changed)
    overrides.apply(config, changed, source="load_config")
    if "name" in config and config.name is None:
        config.name = overrides.stem(os.fspath(path))
    return config


def train(
    config: ConfigDict,
    workdir: str | os.PathLike[str] | None = None,
    *,
    changed: Iterable[str] = (),
    patience: float = 0.0,
) -> RunFolder:
    """Trains, tests and reports one run, and returns its folder.

    A run that was interrupted goes on where it stopped; a finished one is returned as it is.

        run = train(load_config("configs/quickstart.py"))
        run.test["accuracy"], run.history[-1]["validation_loss"]

    Args:
      config: the config of a run; `load_config` gives one.
      workdir: the run's folder; None for runs/NAME, where NAME is `config.name`.
      changed: paths of options that were changed by hand. Those that nothing in the run reads
        are logged before the first epoch.
      patience: seconds to wait for another process that writes into the folder.

    Raises:
      ConfigError: an option has a value that cannot be used, or `config` is a study.
      DataError: the data is missing, unreadable or not what it should be.
      RunError: the folder holds the run of another config or of other data, or is in use.
      TrainingError: the loss is no longer finite.
    """
    if "rows" in config or "members" in config:
        raise ConfigError("This config is a study or an ensemble: train it with launch.py.")
    if workdir is None and not config.get("name"):
        raise ConfigError("The run has no name: give config.name or workdir.")
    run = RunFolder(
        workdir if workdir is not None else Path("runs", trial.folder_name(config.name, config))
    )
    config = check_config(reads.recorded(config, changed))
    backend.configure(cpu_devices=config.train.cpu_devices)
    settings = config.to_json_best_effort()
    primary_settings, finished = distributed.from_primary(
        lambda: (settings, resuming.finished(config, run))
    )
    distributed.check_same("config", settings, primary_settings)
    if finished:
        return run
    with run.locked(patience=patience):
        # Another process may have trained here before this one got the lock: look again.
        begun, finished = distributed.from_primary(
            lambda: (run.begun, resuming.finished(config, run))
        )
        if not finished:
            splits = _load_data(config, run, begun=begun)
            _train(config, run, splits)
    return run


def check_config(config: ConfigDict) -> ConfigDict:
    """Returns the config completed with the options of its weights, and shortened for a trial.

    Raises ConfigError if an option has a value that cannot be used.
    """
    with reads.paused(config):  # checking an option is not using it
        options.check(config)
    return trial.shortened(pretrained.resolve(config))


def _load_data(config: ConfigDict, run: RunFolder, *, begun: bool) -> data.Splits:
    """Loads the data, and refuses data that is not the run's or not every process's."""
    if not begun:
        pretrained.fetch(config)  # first, since the download is what may fail
    splits = data.load(config.data, quick=config.quick)
    primary_fingerprint = distributed.from_primary(lambda: splits.fingerprint)
    distributed.check_same("data", splits.fingerprint, primary_fingerprint)
    if begun and distributed.is_primary() and (run.path / DATA).exists():
        resuming.check_data(run, splits)
        splits.report["learned_before"] = run.data.get("learned_before", {})
    else:
        splits.report["learned_before"] = digests.learned_before(config, splits.digests)
    splits.report["warnings"] += digests.warnings(splits.report)
    data_checks.log_report(splits.report)
    return splits


def _train(config: ConfigDict, run: RunFolder, splits: data.Splits) -> None:
    """Trains from where the run is, then writes what is still missing in its folder."""
    environment = _describe_environment(config, run, splits)
    run.write_json(CONFIG, config.to_dict())
    run.write_json(ENVIRONMENT, environment)
    run.write_json(DATA, splits.report)
    if splits.corrections:
        files.write_atomically(run.path / CORRECTIONS, splits.corrections.content)
    digests.write(run, splits.digests)
    if not run.begun and distributed.is_primary():
        for name in LEFT_BEHIND:
            (run.path / name).unlink(missing_ok=True)
    loop.train(config, run, teacher.add_predictions(config, splits, run.path / TEACHER))
    if not distributed.is_primary():
        return
    is_tested = (run.path / TEST).exists() and (run.path / PREDICTIONS).exists()
    if not is_tested:
        prediction.test(run, splits)
    recorder.write_results(run)
    runs.write_report(run, splits, before_page=recorder.write_pictures)
    log.info("%s", resuming.figures(run))


def _describe_environment(
    config: ConfigDict, run: RunFolder, splits: data.Splits
) -> dict[str, Any]:
    """Returns what environment.json holds: versions, devices, fingerprint and weights."""
    environment = backend.describe()
    environment["data_fingerprint"] = splits.report["fingerprint"]
    if not distributed.is_primary():
        return environment
    if run.begun and (run.path / ENVIRONMENT).exists():
        _log_device_change(run, environment["device_count"])
        weights = run.environment.get("weights")
    elif run.begun:
        log.warning("%s is missing: where the run was begun is not known.", run.path / ENVIRONMENT)
        weights = None
    else:
        weights = pretrained.describe(config)
    if weights:
        environment["weights"] = weights
    return environment


def _log_device_change(run: RunFolder, device_count: int) -> None:
    before = run.environment.get("device_count", device_count)
    if before == device_count:
        return
    plural = "s" if before > 1 else ""
    log.info(
        "The run was on %d device%s so far and continues on %d: its numbers will agree with "
        "those of either up to rounding.",
        before,
        plural,
        device_count,
    )


def load_run(path: Run) -> RunFolder:
    """Returns the run in a folder, whether or not it is finished.

        run = load_run("runs/quickstart")
        run.config, run.history, run.test, run.predictions

    Raises:
      RunError: the folder holds no run, or its config.json is damaged.
    """
    if isinstance(path, RunFolder):
        return path
    run = RunFolder(path)
    options.of_run(run)
    return run


def predict(
    run: Run | Classifier,
    images: np.ndarray | str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
) -> Iterator[Prediction]:
    """Classifies images, a batch at a time, and yields a prediction of each in their order.

        for prediction in predict("runs/quickstart", ["scan.png", "more/"]):
            print(prediction.path, prediction.class_name, prediction.confidence)
        probabilities = [p.probabilities for p in predict(run, test_images)]

    Args:
      run: a run, the folder of a run, an ensemble or an export, or a name in the catalogue of
        pretrained weights such as "efficientnet_lite0".
      images: uint8 [N, H, W, C] of the run's image shape; or files, folders and globs, which are
        read as the command `imgcls predict` reads them. A CSV or .npz file gives a prediction for
        each of its images.

    Returns:
      An iterator of predictions: `class_name`, `confidence` (0 to 1), `probabilities` float64 [K],
      `image` uint8 [H, W, C] as the model saw it, `path`, `row` in a CSV or .npz file (from 1), and
      `error` for a file that could not be read. A run for which `imgcls unknown` was called also
      gives `strangeness`, `is_unknown`, and `classes`, of which one is the true one as often as asked.

    Raises:
      RunError: there is nothing that classifies at that path.
      DataError: the array has another shape than the run's images.
    """
    backend.configure()
    classifier = _load_classifier(run)
    if isinstance(images, np.ndarray):
        _check_images(images, classifier.shape)
        return classify_images(classifier, images)
    if isinstance(images, str | os.PathLike):
        images = [images]
    if not all(isinstance(path, str | os.PathLike) for path in images):
        raise DataError("The images are no array: give one, uint8 [N, H, W, C], or paths of files.")
    return classify(classifier, image_files.find([os.fspath(path) for path in images]))


def _load_classifier(run: Run | Classifier) -> Classifier:
    if isinstance(run, RunFolder):
        return classifiers.load(run.path)
    if isinstance(run, str | os.PathLike):
        return classifiers.load(os.fspath(run))
    return run


def _check_images(images: np.ndarray, shape: tuple[int, ...]) -> None:
    if images.dtype != np.uint8 or images.shape[1:] != shape:
        expected = ", ".join(map(str, shape))
        raise DataError(
            f"The images are {images.dtype} {list(images.shape)}. Give uint8 [N, {expected}], "
            "or the paths of image files, which are resized."
        )


def evaluate(
    run: Run, images: np.ndarray | None = None, labels: np.ndarray | None = None
) -> dict[str, Any]:
    """Computes the scores of a run's best checkpoint on its test set, or on other images.

        evaluate("runs/quickstart")["accuracy"]
        evaluate(run, images, labels)["confusion"]

    Args:
      run: a run or its folder.
      images: uint8 [N, H, W, C] of the run's image shape; None for the run's test set.
      labels: int [N], indices of the run's classes; they are given where `images` are.

    Returns:
      accuracy (0 to 1), loss (nats), macro and per_class precision, recall and F1, confusion
      [K][K] with true classes as rows, confused_pairs and examples: what test.json holds.

    Raises:
      RunError: the run has no checkpoint, or its data is no longer what it was trained on.
      DataError: images and labels do not fit each other, or do not fit the run.
    """
    backend.configure()
    run = load_run(run)
    predictor = prediction.Predictor(run)
    if images is None and labels is None:
        test = runs.data_of(run).test
        return score(predictor.logits(test.images), test.labels, predictor.class_names)
    if images is None or labels is None:
        raise DataError("Give both images and labels, or neither for the run's test set.")
    images = np.asarray(images)
    labels = np.asarray(labels)
    _check_images(images, predictor.shape)
    _check_labels(labels, len(images), classes=len(predictor.class_names))
    return score(predictor.logits(images), labels, predictor.class_names)


def _check_labels(labels: np.ndarray, count: int, *, classes: int) -> None:
    if count == 0 or labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise DataError(
            f"The labels are {labels.dtype} {list(labels.shape)} for {count} images. "
            "Give one integer for each image, and at least one image."
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(
            f"The labels are {labels.min()} to {labels.max()}. The run has {classes} classes: "
            f"give 0 to {classes - 1}."
        )
