"""Grad-CAM or saliency: where a run looks, in images that it gets right and wrong.

Draws what finished runs look at in some of their test images, says how compact their maps are, and writes the pages
again. Of runs on the same test images it compares the maps of each with those of the first.
"""

import argparse
import logging
from collections.abc import Sequence

from imgcls_jax.commands import runs

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    runs.add_folders(parser)
    parser.add_argument(
        "--method", default="gradcam", help="gradcam, gradcam++ or saliency (default: %(default)s)"
    )


def run(options: argparse.Namespace) -> None:
    explain(options.folders, method=options.method)


def explain(folders: Sequence[str], *, method: str = "gradcam") -> None:
    """method: a key of evaluation.gradcam.METHODS."""
    from imgcls_jax import backend
    from imgcls_jax.errors import choose
    from imgcls_jax.evaluation import gradcam
    from imgcls_jax.reporting import explain as pictures

    backend.configure()
    choose("method (--method)", method, gradcam.METHODS)
    compared = pictures.Compared()
    for run in runs.tested(folders):
        with runs.locked_with_data(run) as splits:
            figures, maps = gradcam.explain(run, splits.test, method=method)
            shares = gradcam.compactness(run, splits.test, method=method)
            figures |= {"compactness": pictures.compactness(shares)}
            pictures.write(run, splits.test, figures, maps)
            runs.write_report(run, splits)
            sentences = compared.sentences(run.name, splits.test, shares)
        log.info("%s\n%s", run.path / "explain.png", "\n".join(sentences))
