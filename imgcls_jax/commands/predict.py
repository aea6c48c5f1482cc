"""Classifies images: a line of JSON or CSV for each, in their order.

IMAGE is an image file, a folder or glob of these, or a CSV or .npz file with many images: a CSV
file has a column for each pixel, an .npz file the array images, test_images or x_test. Labels in
it, or folders named like the classes, give accuracies.

A line has the class, its confidence and the five most likely classes, or why the file could not be
read; then the exit status is 2. Counts go to stderr, and a picture of some images into the run's
folder. A folder stands for the images in it and below.

  imgcls predict runs/quickstart photo.jpg scans/ "drawings/*.png" > predictions.jsonl
  imgcls predict efficientnet_lite0 photo.jpg
  imgcls predict runs/digits test.csv --format csv --columns ImageId,Label > submission.csv

Columns of --format csv, as FIELD or NAME=FIELD: number (of the image, from 1), image (its file),
row (in a CSV or .npz file, from 1), class, confidence, inverted, error. ImageId and id stand for
the number, Label for the class. Where `imgcls unknown` was called for the run there are also
strangeness, unknown and classes.
"""

import argparse
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from imgcls_jax.evaluation.classifiers import Classifier
    from imgcls_jax.evaluation.images import Prediction
    from imgcls_jax.reporting.predictions import Summary

log = logging.getLogger(__name__)

JUDGED_FIELDS = (
    "strangeness",
    "unknown",
    "classes",
)  # of runs that `imgcls unknown` was called for
FIELDS = ("number", "image", "row", "class", "confidence", "inverted", "error", *JUDGED_FIELDS)
# Columns of Kaggle's sample submissions, in lower case.
KAGGLE_FIELDS = {"imageid": "number", "id": "number", "label": "class"}
DEFAULT_COLUMNS = "image,row,class,confidence,error"
DEFAULT_JUDGED_COLUMNS = "image,row,class,confidence,strangeness,unknown,classes,error"
PATIENCE = 10.0  # seconds to wait for another command that writes into the run's folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "classifier",
        metavar="RUN",
        help="folder of a run, an ensemble or an export, or a name of pretrained weights "
        "(`imgcls weights list`), which know ImageNet's classes",
    )
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="image files, folders and globs of these, CSV or .npz files of pixels",
    )
    parser.add_argument(
        "--format",
        choices=("json", "csv"),
        default="json",
        help="of the lines: an object of JSON each, or a table with a header (default: json)",
    )
    parser.add_argument(
        "--columns",
        type=parse_columns,
        metavar="NAME,...",
        help=f"of --format csv (default: {DEFAULT_COLUMNS})",
    )


def parse_columns(text: str) -> dict[str, str]:
    """Returns the field of FIELDS for each column of a text such as "ImageId,digit=class".

    Raises argparse.ArgumentTypeError for a column of no field, and for two of one name.
    """
    columns: dict[str, str] = {}
    for part in text.split(","):
        name, _, field = part.strip().partition("=")
        if not field:
            field = KAGGLE_FIELDS.get(name.lower(), name)
        if field not in FIELDS:
            raise argparse.ArgumentTypeError(
                f"{part.strip()!r} names no field. Write NAME=FIELD, with one of the fields "
                f"{', '.join(FIELDS)}."
            )
        if name in columns:
            raise argparse.ArgumentTypeError(f"two columns are called {name!r}.")
        columns[name] = field
    return columns


def run(options: argparse.Namespace) -> None:
    columns = options.columns
    if columns and options.format != "csv":
        options.parser.error("argument --columns: it needs --format csv")
    if options.format == "csv" and not columns:
        columns = {}
    predict(options.classifier, options.images, columns=columns)


def predict(
    classifier: str, images: Sequence[str], *, columns: Mapping[str, str] | None = None
) -> None:
    """Prints the prediction of each image.

    columns: the field of FIELDS for each column of a table, none for the default columns; None for
    lines of JSON.

    Raises RunError if nothing that classifies is there, or if it does not give one of the fields,
    and DataError at the end if images could not be read.
    """
    from imgcls_jax import backend, pretrained
    from imgcls_jax.data import image_files
    from imgcls_jax.errors import DataError, RunError
    from imgcls_jax.evaluation import classifiers
    from imgcls_jax.reporting.predictions import Summary

    files = image_files.find(images)
    if not files:
        raise RunError(
            "No images are given. For example: python -m imgcls_jax predict runs/NAME PATH"
        )
    backend.configure()
    model = classifiers.load(classifier)
    columns = _check_columns(columns, model, classifier)
    log.info("%s", model.reader)
    summary = Summary(model.class_names, learned=_learned_images(classifier))
    for prediction in _printed(model, files, columns):
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


def _check_columns(
    columns: Mapping[str, str] | None, model: "Classifier", classifier: str
) -> Mapping[str, str] | None:
    """Returns the columns, or the default ones if they are empty.

    Logs which command lets a run say what it does not know. Raises RunError if that has not been
    called and a column needs it.
    """
    from imgcls_jax.errors import RunError
    from imgcls_jax.evaluation.predict import Predictor
    from imgcls_jax.evaluation.unknown import CautiousPredictor

    is_cautious = isinstance(model, CautiousPredictor)
    if columns is not None and not columns:
        text = DEFAULT_COLUMNS
        if is_cautious:
            text = DEFAULT_JUDGED_COLUMNS
        columns = parse_columns(text)
    if is_cautious:
        return columns
    for field in (columns or {}).values():
        if field in JUDGED_FIELDS:
            raise RunError(
                f"{classifier} does not give {field!r}, as a run does after `imgcls unknown RUN`."
            )
    if isinstance(model, Predictor):
        log.info("`imgcls unknown %s` lets it say which images it does not know.", classifier)
    return columns


def _printed(
    model: "Classifier", files: Sequence[str], columns: Mapping[str, str] | None
) -> "Iterator[Prediction]":
    """Yields the prediction of each image of the files, after printing its line."""
    from tqdm import tqdm

    from imgcls_jax import api
    from imgcls_jax.data import array_files
    from imgcls_jax.errors import printable

    total: int | None = len(files)
    if any(map(array_files.is_array_file, files)):
        total = None  # The number of images is not known before they are read.
    if columns:
        tqdm.write(_csv_line(columns))
    progress = tqdm(
        api.predict(model, files),
        total=total,
        desc=printable(model.name),
        unit="image",
        disable=None,
    )
    for number, prediction in enumerate(progress, 1):
        content = prediction.to_json(model.class_names)
        line = json.dumps(content)
        if columns:
            content["number"] = number
            if prediction.classes:
                content["classes"] = "|".join(prediction.classes)
            line = _csv_line([content.get(field) for field in columns.values()])
        tqdm.write(line)  # print() would tear the progress bar
        yield prediction


def _csv_line(cells: Iterable[object]) -> str:
    from imgcls_jax.reporting.plain_tables import csv_table

    return csv_table([tuple(cells)]).rstrip("\n")


def _learned_images(classifier: str) -> "Mapping[str, np.ndarray]":
    """Returns digests of the images that a run was trained and selected on, if it keeps them."""
    from imgcls_jax.errors import RunError
    from imgcls_jax.run import digests
    from imgcls_jax.run.folder import RunFolder

    try:
        return digests.read(RunFolder(classifier))
    except RunError as error:
        log.warning("%s Copies of training images are not counted.", error)
        return {}


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
