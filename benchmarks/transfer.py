"""What frozen layers spare: python -m benchmarks.transfer

Report D's recipes on synthetic images of CIFAR's shape, enlarged as there: the first level's five epochs with and
without its features computed once, and steps of which more and less is trained.
"""

import argparse
import sys
import time
from collections.abc import Callable

import jax
import numpy as np

from benchmarks.tasks import CIFAR
from benchmarks.train import Rates, machine, progress, spread
from configs import cifar_resnet50_frozen
from imgcls_jax.data import Splits
from imgcls_jax.data.dataset import Dataset
from imgcls_jax.training import setup, steps

TRAIN, VALIDATION = 40_000, 10_000  # images of report D's split
WIDTH = 2048  # of ResNet-50's features
TRAINABLE = {
    "everything": (),
    "layer4 and classifier": ("^layer4_", "^fc/"),
    "classifier": ("^fc/",),
}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.transfer", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--size", type=int, default=224, help="side to which the images are enlarged"
    )
    parser.add_argument(
        "--batches", type=int, default=2, help="batches of 64 images that stand for a whole epoch"
    )
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    print(f"{machine()}; medians of {options.rounds} rounds, least and most in brackets.\n")
    print(epochs_table(caching(options.size, options.batches, rounds=options.rounds)))
    print(f"\n{steps_table(*freezing(options.size, rounds=options.rounds))}")


def config_of(size: int, **changes):
    config = cifar_resnet50_frozen.get_config()
    config.model.pretrained = None
    config.data.transform = config.data.transform.replace("224", str(size))
    config.train.eval_batch_size = config.train.batch_size
    config.update_from_flattened_dict(changes)
    return config


def examples(count: int) -> Dataset:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, *CIFAR), dtype=np.uint8)
    return Dataset(images, random.integers(0, 10, count, dtype=np.int32), tuple("abcdefghij"))


def built(config, data: Dataset) -> setup.Setup:
    return setup.build(config, Splits(train=data, validation=data, test=data, report={}))[0]


def caching(size: int, batches: int, *, rounds: int) -> Rates:
    """Seconds for an image by what is done with it, of each round."""
    config = config_of(size, **{"adapt.feature_cache": 0})
    batch = config.train.batch_size
    data = examples(batches * batch)
    plain, once = built(config, data), built(config_of(size), data)
    images, vectors = steps.replicate(data.images), np.zeros((TRAIN, WIDTH), np.float32)
    whole = steps.replicate((vectors, examples(TRAIN).targets))
    variables = steps.replicate(setup.variables(plain.state))
    parts = {
        "training on images": (len(data), training(plain, steps.place(data), batches, batch)),
        "validation on images": (len(data), lambda: plain.predict(variables, images)),
        "features": (len(data), lambda: once.embed(variables, images)),
        "training on features": (TRAIN, training(once, whole, TRAIN // batch, batch)),
        "validation on features": (
            VALIDATION,
            lambda: once.predict(variables, whole[0][:VALIDATION]),
        ),
    }
    return in_turn(
        {name: run for name, (_, run) in parts.items()},
        {name: n for name, (n, _) in parts.items()},
        rounds,
    )


def freezing(size: int, *, rounds: int) -> tuple[Rates, dict[str, float]]:
    """Seconds of a step for each of TRAINABLE, and its FLOPs as XLA counts them."""
    runs, flops = {}, {}
    for name, patterns in TRAINABLE.items():
        config = config_of(size, **{"adapt.feature_cache": 0, "adapt.trainable": patterns})
        batch = config.train.batch_size
        data = examples(batch)
        each = built(config, data)
        placed = steps.place(data)
        flops[name] = each.train.flops(
            steps.replicate(each.state), placed, steps.split(np.zeros((1, batch)), 1)
        )
        runs[name] = training(each, placed, 1, batch)
    return in_turn(runs, dict.fromkeys(runs, 1), rounds), flops


def training(each: setup.Setup, placed, batches: int, batch: int) -> Callable[[], None]:
    """run() takes `batches` steps over the examples in order."""
    state = steps.replicate(each.state, to_donate=True)
    indices = steps.split(
        np.arange(batches * batch, dtype=np.int32).reshape(batches, batch), batches
    )

    def run() -> None:
        nonlocal state
        state, metrics = each.train(state, placed, indices, batches)
        jax.block_until_ready(metrics)

    return run


def in_turn(runs: dict[str, Callable[[], object]], counts: dict[str, int], rounds: int) -> Rates:
    """Seconds for each of a run's `counts`, of every round but the first, which compiles."""
    seconds: Rates = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            progress(f"round {number} of {rounds}: {name}")
            start = time.perf_counter()
            jax.block_until_ready(run())
            if number:
                seconds[name].append((time.perf_counter() - start) / counts[name])
    return seconds


def epochs_table(seconds: Rates) -> str:
    """Report D's epochs from the seconds for an image; the ratios are taken within a round."""
    image = {name: np.array(values) for name, values in seconds.items()}
    without = TRAIN * image["training on images"] + VALIDATION * image["validation on images"]
    after = TRAIN * image["training on features"] + VALIDATION * image["validation on features"]
    features = (TRAIN + VALIDATION) * image["features"]
    one = np.ones(len(without))
    rows = {
        "an epoch on images": (without, one),
        "the features of all images": (features, without / features),
        "an epoch on features": (after, without / after),
        "five epochs on images": (5 * without, one),
        "five epochs on features, with computing them": (
            features + 5 * after,
            5 * without / (features + 5 * after),
        ),
    }
    lines = ["| ResNet-50 frozen (D1) | seconds | times as fast |", "| --- | --- | --- |"]
    for name, (values, ratio) in rows.items():
        digits = 0 if values.min() >= 100 else 2
        lines.append(
            f"| {name} | {spread(list(values), digits)} | {spread(list(ratio), 2) if ratio.max() > 1 else ''} |"
        )
    return "\n".join(lines)


def steps_table(seconds: Rates, flops: dict[str, float]) -> str:
    first, *_ = seconds
    lines = [
        "| what trains | GFLOP a step | of everything | seconds a step | of everything |",
        "| --- |" + " --- |" * 4,
    ]
    for name, values in seconds.items():
        share = [value / whole for value, whole in zip(values, seconds[first], strict=True)]
        lines.append(
            f"| {name} | {flops[name] / 1e9:,.0f} | {flops[name] / flops[first]:.2f} | {spread(values, 2)} | "
            f"{spread(share, 2)} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1:])
