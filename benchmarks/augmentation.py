"""What augmentation on the device costs: python -m benchmarks.augmentation --model se_resnet

Training steps without augmentation and with it, in turn within one process, then each operation alone, compiled, on a
batch of CIFAR's shape.
"""

import argparse
import random
import sys
import time

import jax
import numpy as np

from benchmarks import ours
from benchmarks.tasks import CIFAR, TASKS
from benchmarks.train import Rates, machine, progress, spread
from benchmarks.worker import timed
from imgcls_jax.data.transforms import parse

NONE = "none"
USUAL = "random_crop(4, reflect)|flip|normalize(cifar10)"
MUCH = (
    "random_crop(4, reflect)|flip|rotation(15)|affine(10, .1, .9, 1.1, 5)|color_jitter(.3, .3, .3, .05)"
    "|normalize(cifar10)|cutout(8)"
)
TRANSFORMS = {NONE: "", "usual": USUAL, "much": MUCH, "much, mixed": f"{MUCH}|cutmix"}
ALONE = (
    "random_crop(4, zero)",
    "random_crop(4, reflect)",
    "random_resized_crop(.2)",
    "flip",
    "alternating_flip",
    "rotation(15)",
    "rotation(15, nearest)",
    "affine(10, .1, .9, 1.1, 5)",
    "color_jitter(.3, .3, .3)",
    "color_jitter(hue=.05)",
    "random_gray(.2)",
    "cutout(8)",
    "mixup(.2)",
    "cutmix",
    "resize(64)",
    "center_crop(28)",
    "rgb",
    "bgr",
    "normalize(cifar10)",
)
BATCH = 512  # of an operation alone


def main(arguments: list[str]) -> None:
    colour = [name for name, task in TASKS.items() if task.image == CIFAR]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.augmentation", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--model", choices=colour, default="se_resnet")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="of each transform's training in each round"
    )
    options = parser.parse_args(arguments)
    print(f"{machine()}; medians of {options.rounds} rounds, least and most in brackets.\n")
    print(
        training_table(
            options.model, training(options.model, rounds=options.rounds, seconds=options.seconds)
        )
    )
    print(f"\n{operations_table(operations(options.rounds))}")


def training(model: str, *, rounds: int, seconds: float) -> Rates:
    """Images/s of training with each of TRANSFORMS, in a new order each round, after all are compiled."""
    shuffled, runs, per_step = random.Random(0), {}, {}
    for name, text in TRANSFORMS.items():
        progress(f"{model}: warming up {name}")
        runs[name] = ours.create(model, transform=text)
        runs[name](1)
        per_step[name], _ = timed(runs[name], 1)
    rates: Rates = {name: [] for name in runs}
    for number in range(rounds):
        for name in shuffled.sample(list(runs), len(runs)):
            progress(f"{model}: round {number + 1} of {rounds}, {name}")
            steps = max(1, round(seconds / per_step[name]))
            spent, steps = timed(runs[name], steps)
            per_step[name] = spent / steps
            rates[name].append(TASKS[model].batch_size / per_step[name])
    return rates


def operations(rounds: int) -> Rates:
    """Images/s of each of ALONE on uint8 images; all include the scaling to [0, 1], which "" does by itself."""
    images = jax.device_put(
        np.random.default_rng(0).integers(0, 256, (BATCH, *CIFAR), dtype=np.uint8)
    )
    keys, examples = jax.random.split(jax.random.key(0), BATCH), np.arange(BATCH)
    runs = {text: compiled(text) for text in ("", *ALONE)}
    rates: Rates = {text: [] for text in runs}
    for number in range(rounds + 1):  # the first compiles
        progress(f"operations: round {number} of {rounds}")
        for text, run in runs.items():
            start = time.perf_counter()
            jax.block_until_ready(run(images, keys, examples))
            if number:
                rates[text].append(BATCH / (time.perf_counter() - start))
    return rates


def compiled(text: str):
    """see(images, keys, examples) -> what the model would see, mixed with the batch turned round if it mixes."""
    transform = parse(text)

    @jax.jit
    def see(images, keys, examples):
        x = transform(images, keys, examples=examples)
        return transform.mix(x, x[::-1], keys)[0] if transform.mix else x

    return see


def training_table(model: str, rates: Rates) -> str:
    """The ratios are taken within a round."""
    batch, bar = TASKS[model].batch_size, "\\|"  # as tables of Markdown want it
    rows = [f"| {model} ({batch}) | images/s | time per step, of none |", "| --- | --- | --- |"]
    for name, values in rates.items():
        times = [none / value for none, value in zip(rates[NONE], values, strict=True)]
        ratio = "" if name == NONE else spread(times, 3)
        transform = f"{name}: `{TRANSFORMS[name].replace('|', bar)}`" if TRANSFORMS[name] else name
        rows.append(f"| {transform} | {spread(values, 0 if min(values) >= 100 else 1)} | {ratio} |")
    return "\n".join(rows)


def operations_table(rates: Rates) -> str:
    rows = [f"| alone, {BATCH} images | images/s |", "| --- | --- |"]
    rows += [
        f"| {f'`{text}`' if text else 'scaling'} | {spread(values, 0)} |"
        for text, values in rates.items()
    ]
    return "\n".join(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
