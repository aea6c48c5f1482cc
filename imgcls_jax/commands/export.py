"""Writes a run's best model as files for other programs, into RUN/export.

For JAX the folder has the program with its preprocessing and weights, and the weights as
safetensors; for ONNX a model that ONNX Runtime and others run, with int8 a smaller one too; as HTML
that model and one file that runs it in a browser, without a server or a network. A model card is
beside them.

  imgcls export runs/cifar_fast
  imgcls export runs/cifar_fast --format onnx --int8
  npm install onnxruntime-web && imgcls export runs/mnist_cnn --format html
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imgcls_jax.commands import runs
from imgcls_jax.errors import ConfigError, pip_install

if TYPE_CHECKING:
    from imgcls_jax.run.folder import RunFolder

FORMATS = ("jax", "onnx", "html")

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    runs.add_folders(parser)
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default=FORMATS[0],
        help="jax: a program for jax.export; onnx: a model for ONNX Runtime; html: a page that "
        "classifies (default: %(default)s)",
    )
    parser.add_argument(
        "--int8",
        action="store_true",
        help="with onnx: also a quantized model, calibrated on validation images",
    )


def run(options: argparse.Namespace) -> None:
    export(options.folders, options.format, with_int8=options.int8)


def export(folders: Sequence[str], format: str = FORMATS[0], *, with_int8: bool = False) -> None:
    """Exports each run. Raises RunError for a folder without a tested run.

    with_int8: writes a quantized model too; for ONNX alone. Raises ConfigError if what the format
    needs is not installed.
    """
    from imgcls_jax import backend
    from imgcls_jax.reporting import browser_page, model_card

    runs.require_folders(folders, "export runs/NAME")
    if with_int8 and format != "onnx":
        raise ConfigError("--int8 is for ONNX: add --format onnx.")
    if format == "html":
        browser_page.require_runtime()
    backend.configure()
    for run in runs.tested(folders):
        with run.locked():
            runs.require_tested(run)
            folder = _write(run, format, with_int8=with_int8)
            card = model_card.write(run, folder)
            if format == "html":
                page = browser_page.write(run, folder)
                log.info("%s", page)
        log.info("%s", card)


def _write(run: "RunFolder", format: str, *, with_int8: bool) -> Path:
    from imgcls_jax.evaluation import export as programs

    if format == "jax":
        return programs.write(run)
    try:
        from imgcls_jax.evaluation.onnx import export as onnx_models
    except ModuleNotFoundError as error:
        if error.name not in ("onnx", "onnxruntime"):
            raise
        raise ConfigError(
            f"--format {format} needs the package {error.name}: {pip_install('onnx')} brings it."
        ) from error
    return onnx_models.write(run, runs.data_of(run), with_int8=with_int8)
