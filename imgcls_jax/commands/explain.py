"""Draws where a run looks in test images that it gets right and wrong, by Grad-CAM or saliency.

The picture is added to the run's page, with the share of an image that holds most of a map. If
several runs have the same test images, their maps are compared with those of the first.

  imgcls explain runs/cifar_fast
  imgcls explain runs/mnist_lstm --method saliency
"""

import argparse
import logging
from collections.abc import Sequence

from imgcls_jax.commands import runs

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    runs.add_folders(parser)
    parser.add_argument(
        "--method",
        default="gradcam",
        help="gradcam, gradcam++, or saliency for models without a last feature map "
        "(default: %(default)s)",
    )


def run(options: argparse.Namespace) -> None:
    explain(options.folders, method=options.method)


def explain(folders: Sequence[str], *, method: str = "gradcam") -> None:
    """Writes explain.json and explain.png of each run, and its page again.

    method: a key of `evaluation.gradcam.METHODS`. Raises ConfigError for another one and for a
    model that it cannot explain, RunError for a folder without a tested run.
    """
    from imgcls_jax import backend
    from imgcls_jax.errors import choose
    from imgcls_jax.evaluation import gradcam
    from imgcls_jax.reporting import explain as pictures

    runs.require_folders(folders, "explain runs/NAME")
    choose("method (--method)", method, gradcam.METHODS)
    backend.configure()
    comparison = pictures.Comparison()
    for run in runs.tested(folders):
        with runs.locked_with_data(run) as splits:
            explanation, maps = gradcam.explain(run, splits.test, method=method)
            shares = gradcam.compactness(run, splits.test, method=method)
            explanation["compactness"] = pictures.compactness(shares)
            pictures.write(run, splits.test, explanation=explanation, maps=maps)
            runs.write_report(run, splits)
            sentences = comparison.sentences(run.name, splits.test, shares=shares)
        log.info("%s\n%s", run.path / "explain.png", "\n".join(sentences))
