"""What frozen layers save: python -m benchmarks.transfer

Report D's recipes on synthetic images of CIFAR's shape, resized as there: the five epochs of its
first level with and without computing the features only once, and single steps that train more or
less of the network.
"""

import sys
import time
from collections.abc import Callable

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.common import Rates, command_line, machine, progress, spread
from benchmarks.tasks import CIFAR
from configs import cifar_resnet50_frozen
from imgcls_jax.data import Splits
from imgcls_jax.data.dataset import Dataset
from imgcls_jax.training import inputs, parallel, setup

# Images of report D's split.
TRAIN = 40_000
VALIDATION = 10_000
WIDTH = 2048  # of ResNet-50's features
EPOCHS = 5
CLASS_NAMES = tuple("abcdefghij")
TRAINABLE = {
    "everything": (),
    "layer4 and classifier": ("^layer4_", "^fc/"),
    "classifier": ("^fc/",),
}


def main(arguments: list[str]) -> None:
    parser = command_line("benchmarks.transfer", __doc__)
    parser.add_argument(
        "--size",
        type=int,
        default=224,
        help="side to which the images are resized",
    )
    parser.add_argument(
        "--batches",
        type=int,
        default=2,
        help="batches of 64 images that stand for a whole epoch",
    )
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    rounds = options.rounds
    print(f"{machine()}; medians of {rounds} rounds, least and most in brackets.\n")
    print(epochs_table(caching(options.size, options.batches, rounds=rounds)))
    seconds, flops = freezing(options.size, rounds=rounds)
    print(f"\n{steps_table(seconds, flops)}")


def config_of(size: int, **options) -> ConfigDict:
    """Returns report D's config for images of `size`, without weights, with options by path."""
    config = cifar_resnet50_frozen.get_config()
    config.model.pretrained = None
    config.data.transform = config.data.transform.replace("224", str(size))
    config.train.eval_batch_size = config.train.batch_size
    config.update_from_flattened_dict(options)
    return config


def examples(count: int) -> Dataset:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, *CIFAR), dtype=np.uint8)
    labels = rng.integers(0, 10, count, dtype=np.int32)
    return Dataset(images, labels, CLASS_NAMES)


def build(config: ConfigDict, data: Dataset) -> setup.Setup:
    splits = Splits(train=data, validation=data, test=data, report={})
    first_phase, *_ = setup.build(config, splits)
    return first_phase


def caching(
    size: int,
    num_batches: int,
    *,
    rounds: int,
) -> Rates:
    """Returns the seconds for an image in each part of report D's epochs, round by round."""
    without_cache = config_of(size, **{"adapt.feature_bytes": 0})
    batch_size = without_cache.train.batch_size
    data = examples(num_batches * batch_size)
    on_images = build(without_cache, data)
    on_features = build(config_of(size), data)
    images = parallel.replicate(data.images)
    vectors = np.zeros((TRAIN, WIDTH), np.float32)
    features = parallel.replicate((vectors, examples(TRAIN).targets))
    validation_features = features[0][:VALIDATION]
    variables = parallel.replicate(on_images.drawn_state().variables)
    runs = {
        "training on images": training(on_images, inputs.place(data), num_batches, batch_size),
        "validation on images": lambda: on_images.predict(variables, images),
        "features": lambda: on_features.embed(variables, images),
        "training on features": training(on_features, features, TRAIN // batch_size, batch_size),
        "validation on features": lambda: on_features.predict(variables, validation_features),
    }
    counts = {
        "training on images": len(data),
        "validation on images": len(data),
        "features": len(data),
        "training on features": TRAIN,
        "validation on features": VALIDATION,
    }
    return in_turn(runs, counts, rounds=rounds)


def freezing(size: int, *, rounds: int) -> tuple[Rates, dict[str, float]]:
    """Returns the seconds of a step for each of TRAINABLE, and its FLOPs as XLA counts them."""
    runs = {}
    flops = {}
    for name, patterns in TRAINABLE.items():
        config = config_of(size, **{"adapt.feature_bytes": 0, "adapt.trainable": patterns})
        batch_size = config.train.batch_size
        data = examples(batch_size)
        phase = build(config, data)
        placed = inputs.place(data)
        indices = parallel.split_batches(np.zeros((1, batch_size)), 1)
        flops[name] = phase.train.flops(phase.shapes, placed, indices)
        runs[name] = training(phase, placed, 1, batch_size)
    counts = dict.fromkeys(runs, 1)
    return in_turn(runs, counts, rounds=rounds), flops


def training(
    phase: setup.Setup,
    placed: tuple,
    num_batches: int,
    batch_size: int,
) -> Callable[[], None]:
    """Returns run(), which trains `num_batches` steps on the examples in order."""
    state = parallel.replicate(phase.drawn_state(), to_donate=True)
    order = np.arange(num_batches * batch_size, dtype=np.int32)
    batches = order.reshape(num_batches, batch_size)
    indices = parallel.split_batches(batches, num_batches)

    def run() -> None:
        nonlocal state
        state, metrics = phase.train(state, placed, indices, num_batches)
        jax.block_until_ready(metrics)

    return run


def in_turn(
    runs: dict[str, Callable[[], object]],
    counts: dict[str, int],
    *,
    rounds: int,
) -> Rates:
    """Measures the runs in turn. Returns the seconds of each divided by its count, by round."""
    seconds: Rates = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            progress(f"round {number} of {rounds}: {name}")
            start = time.perf_counter()
            jax.block_until_ready(run())
            if number > 0:  # round 0 compiles
                seconds[name].append((time.perf_counter() - start) / counts[name])
    return seconds


def epochs_table(seconds: Rates) -> str:
    """Returns report D's epochs as a Markdown table; ratios are taken within a round.

    seconds: for an image, as `caching` returns them.
    """
    per_image = {name: np.array(values) for name, values in seconds.items()}
    on_images = TRAIN * per_image["training on images"]
    on_images += VALIDATION * per_image["validation on images"]
    on_features = TRAIN * per_image["training on features"]
    on_features += VALIDATION * per_image["validation on features"]
    features = (TRAIN + VALIDATION) * per_image["features"]
    all_on_images = EPOCHS * on_images
    all_on_features = features + EPOCHS * on_features
    lines = [
        "| ResNet-50 frozen (D1) | seconds | times as fast |",
        "| --- | --- | --- |",
        _epochs_row("an epoch on images", on_images),
        _epochs_row("the features of all images", features, on_images),
        _epochs_row("an epoch on features", on_features, on_images),
        _epochs_row("five epochs on images", all_on_images),
        _epochs_row(
            "five epochs on features, with computing them",
            all_on_features,
            all_on_images,
        ),
    ]
    return "\n".join(lines)


def _epochs_row(
    name: str,
    seconds: np.ndarray,
    slower: np.ndarray | None = None,
) -> str:
    """slower: the seconds of what it is compared with."""
    digits = 2
    if seconds.min() >= 100:
        digits = 0
    ratio = ""
    if slower is not None:
        ratios = slower / seconds
        if ratios.max() > 1:
            ratio = spread(list(ratios), 2)
    return f"| {name} | {spread(list(seconds), digits)} | {ratio} |"


def steps_table(seconds: Rates, flops: dict[str, float]) -> str:
    """Returns a Markdown table of FLOPs and seconds of a step, for each of TRAINABLE."""
    everything, *_ = seconds
    lines = [
        "| what trains | GFLOP a step | of everything | seconds a step | of everything |",
        "| --- |" + " --- |" * 4,
    ]
    for name, values in seconds.items():
        pairs = zip(values, seconds[everything], strict=True)
        share = [value / whole for value, whole in pairs]
        cells = [
            f"{flops[name] / 1e9:,.0f}",
            f"{flops[name] / flops[everything]:.2f}",
            spread(values, 2),
            spread(share, 2),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1:])
