"""Classifies images: a line of JSON for each, in their order.

What predicts is the folder of a run, of an ensemble or of an export, or a name in the catalogue of weights, such as
efficientnet_lite0, with ImageNet's classes. Counts go to stderr, and a picture of some images into the run's folder.
"""

import argparse
import json
import logging
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imgcls_jax.reporting.predictions import Summary

log = logging.getLogger(__name__)

PATIENCE = 10.0  # seconds to wait for another command that writes into the run's folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "classifier",
        metavar="RUN",
        help="folder of a run, ensemble or export, or a name of weights",
    )
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="files, folders and globs of images"
    )


def run(options: argparse.Namespace) -> None:
    predict(options.classifier, options.images)


def predict(classifier: str, images: Sequence[str]) -> None:
    """Raises DataError at the end where images could not be read."""
    from tqdm import tqdm

    from imgcls_jax import backend, pretrained
    from imgcls_jax.data import image_files
    from imgcls_jax.errors import DataError, RunError, printable
    from imgcls_jax.evaluation import classifiers
    from imgcls_jax.evaluation.images import classify
    from imgcls_jax.reporting.predictions import Summary

    files = image_files.find(images)
    if not files:
        raise RunError("Images are needed: python -m imgcls_jax predict runs/NAME PATH...")
    backend.configure()
    model = classifiers.load(classifier)
    log.info("%s", model.reader)
    signal.signal(
        signal.SIGPIPE, signal.SIG_DFL
    )  # ends without a traceback where our lines go to head
    summary = Summary(model.class_names)
    predictions = classify(model, files)
    for prediction in tqdm(
        predictions, total=len(files), desc=printable(model.name), unit="image", disable=None
    ):
        tqdm.write(
            json.dumps(prediction.line(model.class_names))
        )  # print would tear the progress bar
        summary.add(prediction)
    if classifier in pretrained.CATALOG:
        log.info("%s", summary.text())
    else:
        log.info("%s", _write_summary(summary, classifier))
    if summary.unreadable:
        raise DataError(
            f"{summary.unreadable:,} of {summary.files:,} images could not be read; their lines say why."
        )


def _write_summary(summary: "Summary", folder: str) -> str:
    """Draws the picture of predictions into the folder, unless another command writes there; returns what to say."""
    from imgcls_jax.errors import RunError
    from imgcls_jax.run.folder import RunFolder

    run = RunFolder(folder)
    try:
        with run.locked(patience=PATIENCE):
            return summary.write(run)
    except RunError as error:  # of the picture alone: the lines are what was asked for
        return f"{summary.text()}\n{error}"
