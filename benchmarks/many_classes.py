"""A folder of many classes, from training to report: python -m benchmarks.many_classes

Writes a folder of PNGs, a class each with a colour pattern of its own and noise, trains
configs/own_images.py on it, and prints seconds, peak memory and what the run folder takes.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.common import command_line, machine, progress
from benchmarks.processes import QUIET, ROOT, environment_without
from imgcls_jax.run.folder import RunFolder

SIZE = 32  # pixels
PATTERN = 4  # pixels of a class's pattern, before it is enlarged
NOISE = 40.0  # standard deviation, in grey levels


def main(arguments: list[str]) -> None:
    parser = command_line("benchmarks.many_classes", __doc__)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--images", type=int, default=20, help="of each class")
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder, "images")
        progress(f"writing {options.classes * options.images:,} images")
        write_images(images, options.classes, options.images)
        run = Path(folder, "run")
        progress(f"training for {options.epochs} epochs, and the report")
        began = time.monotonic()
        train(images, run, options.epochs)
        seconds = time.monotonic() - began
        largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        accuracy = RunFolder(run).test["accuracy"]
        page = Path(run, "report.html").stat().st_size / 1e6
    print(f"{machine()}.\n")
    print("| classes | images | epochs | seconds | peak MiB | page, MB | test accuracy |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    print(
        f"| {options.classes:,} | {options.classes * options.images:,} | {options.epochs} "
        f"| {seconds:.0f} | {largest:,.0f} | {page:.1f} | {accuracy:.1%} |"
    )


def write_images(folder: Path, classes: int, images: int) -> None:
    """Writes so many PNGs of each class into folder/NUMBER."""
    generator = np.random.default_rng(0)
    for label in range(classes):
        class_folder = folder / f"{label:04}"
        class_folder.mkdir(parents=True)
        pattern = generator.uniform(60, 200, (PATTERN, PATTERN, 3))
        enlarged = pattern.repeat(SIZE // PATTERN, 0).repeat(SIZE // PATTERN, 1)
        for number in range(images):
            noisy = enlarged + generator.normal(0, NOISE, enlarged.shape)
            image = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
            image.save(class_folder / f"{number}.png")


def train(images: Path, run: Path, epochs: int) -> None:
    """Trains a run in a process of its own, whose words go to this one's output."""
    command = [
        sys.executable,
        "launch.py",
        "--config",
        f"configs/own_images.py:{images}",
        f"--config.train.epochs={epochs}",
        f"--workdir={run}",
    ]
    environment = environment_without() | QUIET
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
