"""Classifies images: a line of JSON for each, in their order.

A line has the class, its confidence and the five most likely classes, or why the file could not be
read; then the exit status is 2. Counts go to stderr, and a picture of some images into the run's
folder. A folder stands for the images in it and below.

  imgcls predict runs/quickstart photo.jpg scans/ "drawings/*.png" > predictions.jsonl
  imgcls predict efficientnet_lite0 photo.jpg
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
        help="folder of a run, an ensemble or an export, or a name of pretrained weights "
        "(`imgcls weights list`), which know ImageNet's classes",
    )
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="files, folders and globs of images"
    )


def run(options: argparse.Namespace) -> None:
    predict(options.classifier, options.images)


def predict(classifier: str, images: Sequence[str]) -> None:
    """Prints the prediction of each image.

    Raises RunError if nothing that classifies is there, and DataError at the end if images could
    not be read.
    """
    from tqdm import tqdm

    from imgcls_jax import api, backend, pretrained
    from imgcls_jax.data import image_files
    from imgcls_jax.errors import DataError, RunError, printable
    from imgcls_jax.evaluation import classifiers
    from imgcls_jax.reporting.predictions import Summary

    files = image_files.find(images)
    if not files:
        raise RunError(
            "No images are given. For example: python -m imgcls_jax predict runs/NAME PATH"
        )
    backend.configure()
    model = classifiers.load(classifier)
    log.info("%s", model.reader)
    # End without a traceback where the lines go to `head`.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    summary = Summary(model.class_names)
    progress = tqdm(
        api.predict(model, files),
        total=len(files),
        desc=printable(model.name),
        unit="image",
        disable=None,
    )
    for prediction in progress:
        line = json.dumps(prediction.to_json(model.class_names))
        tqdm.write(line)  # print() would tear the progress bar
        summary.add(prediction)
    if classifier in pretrained.CATALOG:
        log.info("%s", summary.text())
    else:
        log.info("%s", _write_summary(summary, classifier))
    if summary.unreadable:
        raise DataError(
            f"{summary.unreadable:,} of {summary.files:,} images could not be read; their lines "
            "say why."
        )


def _write_summary(summary: "Summary", folder: str) -> str:
    """Draws some predictions into the folder; returns the summary and where the picture is.

    If another command writes into the folder, the summary ends in that error and no picture is
    drawn: the lines are what was asked for.
    """
    from imgcls_jax.errors import RunError
    from imgcls_jax.run.folder import RunFolder

    run = RunFolder(folder)
    try:
        with run.locked(patience=PATIENCE):
            return summary.write(run)
    except RunError as error:
        return f"{summary.text()}\n{error}"
