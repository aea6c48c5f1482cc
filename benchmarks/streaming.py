"""Data larger than the device budget: python -m benchmarks.streaming --images 50000

Trains, tests and reports by launch.py on folders of JPEG files of 224x224, each run in a process of
its own, and prints the highest resident memory of the process: libraries, compiled programs and
images together. A run on few images shows what is there without images. A medium number is trained
on with all images on the device and streamed, which must give the same figures. Last come
`--images`, streamed.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import command_line, machine, progress
from benchmarks.processes import ROOT, environment_without

SIDE = 224
CLASSES = 10
TEST_EVERY = 5  # one of so many images of a class is a test image
CONTENTS = 200  # distinct files; the others link to them and are read and decoded one by one
UNLIMITED = 10**12  # a budget that everything fits
# MNIST's CNN on images resized to 28x28: so small that reading is much of the work.
OPTIONS = (
    "--config=configs/mnist_cnn.py",
    "--config.train.epochs=2",
    "--config.train.eval_batch_size=64",
    "--config.data.transform=resize(28)",
    "--config.data.source=folder",
)
HEAD = ("images", "MB", "budget, MB", "peak, MiB", "seconds", "images/s, second epoch", "test loss")


def main(arguments: list[str]) -> None:
    parser = command_line("benchmarks.streaming", __doc__)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument(
        "--both",
        type=int,
        default=6_000,
        help="images that are trained on resident and streamed",
    )
    parser.add_argument("--few", type=int, default=500)
    parser.add_argument(
        "--budget",
        type=int,
        default=100_000_000,
        help="config.data.device_bytes, in bytes",
    )
    parser.add_argument(
        "--folder",
        default=tempfile.gettempdir(),
        help="with room for the decoded images",
    )
    options = parser.parse_args(arguments)
    print(
        f"{machine()}; device budget {options.budget / 1e6:.0f} MB; budgets that hold everything "
        "are left out.\n"
    )
    print(f"| {' | '.join(HEAD)} |\n|" + " ---: |" * len(HEAD))
    cases = [
        (options.few, UNLIMITED),
        (options.both, UNLIMITED),
        (options.both, options.budget),
        (options.images, options.budget),
    ]
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for number, (images, budget) in enumerate(cases):
            figures = train(Path(folder, str(number)), images, budget)
            print(row(images, budget, figures), flush=True)


def row(
    images: int,
    budget: int,
    figures: dict[str, Any],
) -> str:
    megabytes = images * SIDE**2 * 3 / 1e6
    budget_text = ""
    if budget < UNLIMITED:
        budget_text = f"{budget / 1e6:.0f}"
    cells = [
        f"{images:,}",
        f"{megabytes:,.0f}",
        budget_text,
        f"{figures['peak_mib']:,.0f}",
        f"{figures['seconds']:.0f}",
        f"{figures['images_per_second']:,.0f}",
        f"{figures['loss']:.6f}",
    ]
    return f"| {' | '.join(cells)} |"


def train(
    folder: Path,
    images: int,
    budget: int,
) -> dict[str, Any]:
    """Trains on a new folder of images; deletes their cache. Returns the figures of the run."""
    progress(f"{images:,} images, budget {budget:,} bytes")
    folder.mkdir()
    make(folder / "images", images)
    command = [
        sys.executable,
        "launch.py",
        *OPTIONS,
        f"--config.data.path={folder / 'images'}",
        f"--config.data.cache={folder / 'cache'}",
        f"--config.data.device_bytes={budget}",
        f"--workdir={folder / 'run'}",
    ]
    started = time.perf_counter()
    peak_mib = run_and_measure(command, log_file=folder / "log")
    seconds = time.perf_counter() - started
    for file in (folder / "cache").iterdir():
        file.unlink()
    history = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    test = json.loads((folder / "run" / "test.json").read_text())
    return {
        "peak_mib": peak_mib,
        "seconds": seconds,
        "images_per_second": json.loads(history[-1])["images_per_second"],
        "loss": test["loss"],
    }


def run_and_measure(command: list[str], *, log_file: Path) -> float:
    """Runs the command; returns its highest resident memory in MiB.

    Raises RuntimeError with the end of what it wrote if it fails.
    """
    environment = environment_without()
    with open(log_file, "w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        try:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            process.kill()  # if it has not ended
    if process.returncode:
        raise RuntimeError(f"launch.py ended:\n{log_file.read_text()[-2000:]}")
    return usage.ru_maxrss / 1024  # Linux gives KiB


def make(folder: Path, count: int) -> None:
    """Makes JPEG files, one in TEST_EVERY of a class for the test.

    They are noise, in a brightness of its own for each class.
    """
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(count):
        label = number % CLASSES
        split = "train"
        if number // CLASSES % TEST_EVERY == TEST_EVERY - 1:
            split = "test"
        content = folder.parent / f"{number % CONTENTS}.jpg"
        if number < CONTENTS:
            darkest = 20 * label
            coarse = rng.integers(darkest, darkest + 76, (28, 28, 3), dtype=np.uint8)
            image = Image.fromarray(coarse).resize((SIDE, SIDE))
            image.save(content, quality=90)
        file = folder / split / str(label) / f"{number:06}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        os.link(content, file)


if __name__ == "__main__":
    main(sys.argv[1:])
