"""Data larger than the device budget: python -m benchmarks.streaming --images 50000

Trains, tests and reports by launch.py on folders of JPEG files of 224x224, each run a process of its own, and prints
its resident memory at its highest: libraries, compiled programs and images together. Few images show what is there
without them; a middle number is trained on once with all images on the device and once streamed, which must give the
same figures; then come `--images`, streamed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.processes import NOT_INHERITED, ROOT
from benchmarks.train import machine, progress

SIDE, CLASSES = 224, 10
CONTENTS = 200  # different files; the others are links to them, read and decoded as often as they are listed
WHOLE = 10**12  # a budget that everything fits
# Small enough that reading is much of the work: MNIST's CNN on what 224x224 becomes at 28x28.
OPTIONS = (
    "config.train.epochs=2",
    "config.train.eval_batch_size=64",
    "config.data.transform=resize(28)",
)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.streaming", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument(
        "--both", type=int, default=6_000, help="images that are trained on resident and streamed"
    )
    parser.add_argument("--few", type=int, default=500)
    parser.add_argument(
        "--budget", type=int, default=100_000_000, help="config.data.device_budget, in bytes"
    )
    parser.add_argument(
        "--folder", default=tempfile.gettempdir(), help="with room for the decoded images"
    )
    options = parser.parse_args(arguments)
    cases = [(options.few, WHOLE), (options.both, WHOLE), (options.both, options.budget)]
    print(
        f"{machine()}; device budget {options.budget / 1e6:.0f} MB; budgets that hold everything are left out.\n"
    )
    print("| images | MB | budget, MB | peak, MiB | seconds | images/s, second epoch | test loss |")
    print("| ---: |" + " ---: |" * 6)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for number, (images, budget) in enumerate([*cases, (options.images, options.budget)]):
            found = train(Path(folder, str(number)), images, budget)
            shown = f"{budget / 1e6:.0f}" if budget < WHOLE else ""
            print(
                f"| {images:,} | {images * SIDE**2 * 3 / 1e6:,.0f} | {shown} | {found['peak_mib']:,.0f} | "
                f"{found['seconds']:.0f} | {found['images_per_second']:,.0f} | {found['loss']:.6f} |",
                flush=True,
            )


def train(folder: Path, images: int, budget: int) -> dict[str, Any]:
    """One run on a new folder of so many images, all of which goes afterwards but for its figures."""
    progress(f"{images:,} images, budget {budget:,} bytes")
    folder.mkdir()
    make(folder / "images", images)
    options = [
        f"config.data.{key}"
        for key in ("source=folder", f"path={folder / 'images'}", f"cache={folder / 'cache'}")
    ]
    command = [
        sys.executable,
        "launch.py",
        "--config",
        "configs/mnist_cnn.py",
        "--workdir",
        str(folder / "run"),
    ]
    command += [
        f"--{option}" for option in (*OPTIONS, *options, f"config.data.device_budget={budget}")
    ]
    environment = {key: value for key, value in os.environ.items() if key not in NOT_INHERITED}
    started = time.perf_counter()
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        try:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            process.kill()  # where it has not ended
    if process.returncode:
        raise RuntimeError(f"launch.py ended:\n{(folder / 'log').read_text()[-2000:]}")
    for file in (folder / "cache").iterdir():
        file.unlink()
    history = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    return {
        "peak_mib": usage.ru_maxrss / 1024,  # Linux gives KiB
        "seconds": time.perf_counter() - started,
        "images_per_second": json.loads(history[-1])["images_per_second"],
        "loss": json.loads((folder / "run" / "test.json").read_text())["loss"],
    }


def make(folder: Path, count: int) -> None:
    """So many JPEG files, every fifth of a class for the test: noise in a brightness for each of the classes."""
    from PIL import Image

    random = np.random.default_rng(0)
    for number in range(count):
        label, split = number % CLASSES, "test" if number // CLASSES % 5 == 4 else "train"
        file, content = (
            folder / split / str(label) / f"{number:06}.jpg",
            folder.parent / f"{number % CONTENTS}.jpg",
        )
        if number < CONTENTS:
            coarse = random.integers(20 * label, 20 * label + 76, (28, 28, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((SIDE, SIDE)).save(content, quality=90)
        file.parent.mkdir(parents=True, exist_ok=True)
        os.link(content, file)


if __name__ == "__main__":
    main(sys.argv[1:])
