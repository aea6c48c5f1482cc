"""What waits for a GPU, most valuable first, in a given time: python -m benchmarks.gpu --minutes 25

Trains report C's SE-ResNet (row C1), measures the goals for speed, trains SimCLR for 100 epochs
with its probe (B8), and then as much of the optimizers' study (C3) as there is time for. Each is
published as soon as it ends. Given again, it goes on where it stopped. --folder is where runs/,
results/ and goals.json are. --miniature tries all of it on a CPU, on noise.
"""

import argparse
import dataclasses
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.common import command_line, progress
from benchmarks.processes import ROOT

GOALS_FILE = "goals.json"
NOISE_FILE = "noise.npz"
LAUNCH = str(ROOT / "launch.py")
IMAGES_PER_SECOND = re.compile(r"([\d,]+) images/s")
SAVING = 60  # seconds that a training may take to save when its time is over
OPTIMIZER_ROWS = (
    *("sgd_cosine", "nesterov_cosine", "adam_cosine", "adamw_cosine"),
    *("rmsprop_cosine", "adagrad_cosine", "sgd_onecycle", "sgd_constant"),
)
BFLOAT16 = "--config.train.precision=bfloat16"
NO_WEIGHTS = "--config.model.pretrained="


@dataclasses.dataclass(frozen=True)
class Training:
    """A config that is trained as runs/NAME and published. options: of the command line."""

    name: str
    config: str
    options: Sequence[str] = (BFLOAT16,)
    tiny_options: Sequence[str] = ()  # besides, in miniature

    def command(self, miniature: Sequence[str]) -> list[str]:
        options = [*self.options, *miniature]
        if miniature:
            options += self.tiny_options
        config = str(ROOT / "configs" / self.config)
        return [LAUNCH, f"--config={config}", f"--workdir=runs/{self.name}", *options]


@dataclasses.dataclass(frozen=True)
class Goal:
    """A speed that training should reach on one H100 or H200, images/s."""

    name: str
    config: str
    images_per_second: float
    options: Sequence[str] = ()

    def command(self, miniature: Sequence[str]) -> list[str]:
        config = str(ROOT / "configs" / self.config)
        options = [BFLOAT16, *self.options, *miniature]
        return ["-m", "imgcls_jax", "profile", config, f"--workdir=runs/{self.name}", *options]


def _rows(options: Sequence[str]) -> list[str]:
    """Returns options of a config as options of each row of the optimizers' study."""
    changes = []
    for row in OPTIMIZER_ROWS:
        for option in options:
            changes.append(option.replace("--config.", f"--config.rows.{row}.config.", 1))
    return changes


NO_WARMUP = ("--config.schedule.warmup_epochs=0.0",)
TINY = ("--config.model.width=4", "--config.model.blocks=(1,1,1)")
STAGES: Sequence[Training | Goal] = (
    Training("cifar_se_resnet", "cifar_se_resnet.py", tiny_options=TINY),
    # From epochs of 45,000 CIFAR-10 or 54,000 MNIST images; ResNet-50 by batches at 224 pixels.
    Goal("se_resnet", "cifar_se_resnet.py", 36_000),
    Goal("resnet20", "cifar_resnet20.py", 134_000),
    Goal("mnist_cnn", "mnist_cnn.py", 108_000),
    Goal("mnist_lstm", "mnist_lstm.py", 54_000),
    Goal("resnet50_layer4", "cifar_resnet50_finetune.py", 10_000, (NO_WEIGHTS,)),
    Goal(
        "resnet50_all",
        "cifar_resnet50_finetune.py",
        2_800,
        (NO_WEIGHTS, "--config.adapt.trainable=('.*',)"),
    ),
    Goal("hybrid_lora", "mnist_hybrid_lora.py", 6_000, (NO_WEIGHTS,)),
    Training("cifar_simclr", "cifar_simclr.py", tiny_options=NO_WARMUP),
    Training("cifar_simclr_probe", "cifar_simclr_probe.py", tiny_options=NO_WARMUP),
    Training(
        "se_resnet_optimizers",
        "studies/se_resnet_optimizers.py",
        options=_rows([BFLOAT16]),
        tiny_options=_rows(TINY),
    ),
)
MINIATURE = (
    "--config.data.source=npz",
    f"--config.data.path={NOISE_FILE}",
    "--config.data.name=noise",
    "--config.data.validation_size=20",
    "--config.train.epochs=1",
    "--config.train.batch_size=20",
    "--config.train.eval_batch_size=20",
)


def main(arguments: list[str]) -> None:
    options = parse(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    miniature = ()
    if options.miniature:
        miniature = MINIATURE
        write_noise(options.folder / NOISE_FILE)
    deadline = time.monotonic() + 60 * options.minutes
    for stage in STAGES:
        if stage.name not in options.stages:
            continue
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            progress(f"the time is over before {stage.name}; the same command goes on")
            break
        progress(f"{stage.name}, {remaining / 60:.1f} minutes left")
        if isinstance(stage, Goal):
            measure(stage, options.folder, miniature=miniature, seconds=remaining)
        else:
            train(stage, options.folder, miniature=miniature, seconds=remaining)
    print(table(read_goals(options.folder)))


def parse(arguments: list[str]) -> argparse.Namespace:
    names = [stage.name for stage in STAGES]
    parser = command_line("benchmarks.gpu", __doc__)
    parser.add_argument("--minutes", type=float, default=25.0, help="for all stages together")
    parser.add_argument("--folder", type=Path, default=ROOT, help="of runs/ and results/")
    parser.add_argument("--miniature", action="store_true", help="on noise, an epoch each")
    parser.add_argument("--stages", nargs="+", choices=names, default=names, metavar="NAME")
    return parser.parse_args(arguments)


def write_noise(path: Path) -> None:
    """Writes a small data set of noise in CIFAR-10's shape."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 80), ("test", 20)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
        arrays[f"{split}_labels"] = np.arange(count) % 10
    np.savez(path, **arrays)


def train(stage: Training, folder: Path, *, miniature: Sequence[str], seconds: float) -> None:
    """Trains a config for some seconds at most, or the rest of it, and publishes what is finished.

    A run that is finished already is only published again.
    """
    if stage.config.startswith("studies/"):
        miniature = _rows(miniature)
    status = run(stage.command(miniature), folder, seconds=seconds).returncode
    if status == 0 or stage.config.startswith("studies/"):
        run(["-m", "imgcls_jax", "publish", f"runs/{stage.name}"], folder, seconds=SAVING)
    else:
        progress(f"{stage.name} is not finished (exit status {status}); the same command goes on")


def measure(goal: Goal, folder: Path, *, miniature: Sequence[str], seconds: float) -> None:
    """Measures a goal and keeps its figure, unless it is measured already."""
    goals = read_goals(folder)
    if goal.name in goals:
        return
    printed = run(goal.command(miniature), folder, seconds=seconds).stdout
    rates = IMAGES_PER_SECOND.findall(printed)
    if not rates:
        progress(f"{goal.name} could not be measured: {printed[-300:]}")
        return
    goals[goal.name] = {
        "images_per_second": float(rates[-1].replace(",", "")),
        "goal": goal.images_per_second,
    }
    (folder / GOALS_FILE).write_text(json.dumps(goals, indent=1) + "\n")


def run(
    arguments: Sequence[str], folder: Path, *, seconds: float
) -> subprocess.CompletedProcess[str]:
    """Runs Python on these arguments in a folder; after some seconds it is told to stop."""
    command = [sys.executable, *arguments]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        printed, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.terminate()
        printed, _ = process.communicate(timeout=SAVING)
    (last_line,) = printed.rstrip().splitlines()[-1:] or [""]
    progress(last_line)
    return subprocess.CompletedProcess(command, process.returncode, printed)


def read_goals(folder: Path) -> dict[str, dict[str, float]]:
    """Returns the goals that are measured already."""
    path = folder / GOALS_FILE
    if not path.exists():
        return {}
    return json.loads(path.read_text())


def table(goals: dict[str, dict[str, float]]) -> str:
    """Returns what was measured beside the goals, in Markdown."""
    lines = ["| training | images/s | goal |", "| --- | ---: | ---: |"]
    for name, figures in goals.items():
        lines.append(f"| {name} | {figures['images_per_second']:,.0f} | {figures['goal']:,.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1:])
