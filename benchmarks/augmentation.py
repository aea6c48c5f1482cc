"""What augmentation on the device costs: python -m benchmarks.augmentation --model se_resnet

Training steps without augmentation and with it, in turn in one process; then each operation alone,
compiled, on a batch of CIFAR's shape.
"""

import random
import sys
import time
from collections.abc import Callable

import jax
import numpy as np

from benchmarks import ours
from benchmarks.common import Rates, command_line, digits_of, machine, progress, spread
from benchmarks.tasks import CIFAR, TASKS
from benchmarks.worker import timed
from imgcls_jax.data.transforms import parse

NONE = "none"
USUAL = "random_crop(4, reflect)|flip|normalize(cifar10)"
STRONG = (
    "random_crop(4, reflect)|flip|rotation(15)|affine(10, .1, .9, 1.1, 5)"
    "|color_jitter(.3, .3, .3, .05)|normalize(cifar10)|cutout(8)"
)
TRANSFORMS = {
    NONE: "",
    "usual": USUAL,
    "much": STRONG,
    "much, mixed": f"{STRONG}|cutmix",
}
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
    "trivial_augment",
    "rand_augment",
    "augmix",
    "cutout(8)",
    "mixup(.2)",
    "cutmix",
    "resize(64)",
    "center_crop(28)",
    "rgb",
    "bgr",
    "normalize(cifar10)",
)
BATCH_SIZE = 512  # of an operation alone


def main(arguments: list[str]) -> None:
    models = [name for name, task in TASKS.items() if task.image == CIFAR]
    parser = command_line("benchmarks.augmentation", __doc__)
    parser.add_argument("--model", choices=models, default="se_resnet")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--seconds",
        type=float,
        default=4.0,
        help="of each transform's training in each round",
    )
    options = parser.parse_args(arguments)
    rounds = options.rounds
    print(f"{machine()}; medians of {rounds} rounds, least and most in brackets.\n")
    rates = training(options.model, rounds=rounds, seconds=options.seconds)
    print(training_table(options.model, rates))
    print(f"\n{operations_table(operations(rounds))}")


def training(
    model: str,
    *,
    rounds: int,
    seconds: float,
) -> Rates:
    """Returns images/s of training with each of TRANSFORMS.

    After all are compiled, each round measures them in a new order.
    """
    rng = random.Random(0)
    runs = {}
    seconds_per_step = {}
    for name, text in TRANSFORMS.items():
        progress(f"{model}: warming up {name}")
        runs[name] = ours.create(model, transform=text)
        runs[name](1)
        seconds_per_step[name], _ = timed(runs[name], 1)
    batch_size = TASKS[model].batch_size
    rates: Rates = {name: [] for name in runs}
    for number in range(1, rounds + 1):
        for name in rng.sample(list(runs), len(runs)):
            progress(f"{model}: round {number} of {rounds}, {name}")
            steps = max(1, round(seconds / seconds_per_step[name]))
            spent, steps = timed(runs[name], steps)
            seconds_per_step[name] = spent / steps
            rates[name].append(batch_size / seconds_per_step[name])
    return rates


def operations(rounds: int) -> Rates:
    """Returns images/s of each of ALONE on uint8 images.

    All include the scaling to [0, 1], which is all that the empty transform "" does.
    """
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BATCH_SIZE, *CIFAR), dtype=np.uint8)
    images = jax.device_put(images)
    keys = jax.random.split(jax.random.key(0), BATCH_SIZE)
    examples = np.arange(BATCH_SIZE)
    runs = {text: compiled(text) for text in ("", *ALONE)}
    rates: Rates = {text: [] for text in runs}
    for number in range(rounds + 1):
        progress(f"operations: round {number} of {rounds}")
        for text, run in runs.items():
            start = time.perf_counter()
            jax.block_until_ready(run(images, keys, examples))
            if number > 0:  # round 0 compiles
                rates[text].append(BATCH_SIZE / (time.perf_counter() - start))
    return rates


def compiled(text: str) -> Callable:
    """Returns apply(images, keys, examples) -> what the model would get.

    A transform that mixes mixes the batch with its reverse.
    """
    transform = parse(text)

    @jax.jit
    def apply(images, keys, examples):
        x = transform(images, keys, examples=examples)
        if transform.mix:
            x, _ = transform.mix(x, x[::-1], keys)
        return x

    return apply


def training_table(model: str, rates: Rates) -> str:
    """Returns a Markdown table with images/s and step times; ratios are taken within a round."""
    batch_size = TASKS[model].batch_size
    rows = [
        f"| {model} ({batch_size}) | images/s | time per step, of none |",
        "| --- | --- | --- |",
    ]
    for name, values in rates.items():
        transform = TRANSFORMS[name].replace("|", "\\|")  # as Markdown's tables need it
        label = name
        if transform:
            label = f"{name}: `{transform}`"
        ratio = ""
        if name != NONE:
            pairs = zip(rates[NONE], values, strict=True)
            ratio = spread([none / value for none, value in pairs], 3)
        rows.append(f"| {label} | {spread(values, digits_of(values))} | {ratio} |")
    return "\n".join(rows)


def operations_table(rates: Rates) -> str:
    rows = [f"| alone, {BATCH_SIZE} images | images/s |", "| --- | --- |"]
    for text, values in rates.items():
        label = "scaling"
        if text:
            label = f"`{text}`"
        rows.append(f"| {label} | {spread(values, 0)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
