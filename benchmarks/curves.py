"""Losses of training with Winograd and without: python -m benchmarks.curves --configs cifar_se_resnet,cifar_resnet20

The first steps of a config on its data, three times from the same parameters and on the same batches: without
Winograd, with it, and without it on parameters of which each was changed by a ten-millionth. The third says how far
rounding alone drives two trainings apart. Prints a table and writes a picture.
"""

import argparse
import importlib
import sys
from pathlib import Path

import jax
import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from benchmarks.train import machine, progress
from imgcls_jax import backend, data
from imgcls_jax.data.batches import epoch_batches
from imgcls_jax.training import setup, steps

PERTURBATION = 1e-7
VARIANTS = {"without": (False, 0.0), "Winograd": (True, 0.0), "perturbed": (False, PERTURBATION)}
SHOWN = (1, 2, 5, 10, 25, 50, 75, 100)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.curves", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--configs", default="cifar_se_resnet,cifar_resnet20", help="of configs/, comma-separated"
    )
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/curves.png"))
    options = parser.parse_args(arguments)
    backend.configure()
    print(f"{machine()}, jax {jax.__version__}\n")
    print("| config | step | loss without | Winograd, difference | perturbed, difference |")
    print("| --- | ---: | ---: | ---: | ---: |")
    curves = {}
    for name in options.configs.split(","):
        config = importlib.import_module(f"configs.{name}").get_config()
        splits = data.load(config.data)
        curves[name] = {}
        for variant, (winograd, perturbation) in VARIANTS.items():
            progress(f"{name}: {variant}")
            config.train.winograd = winograd
            curves[name][variant] = losses(config, splits, options.steps, perturbation)
        print("\n".join(rows(name, curves[name])), flush=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    draw(curves).savefig(options.output, dpi=120)
    print(f"\n{options.output}")


def losses(config: ConfigDict, splits: data.Splits, count: int, perturbation: float) -> np.ndarray:
    """Of the first `count` steps, float64 [count]."""
    first = setup.build(config, splits)[0]
    random = np.random.default_rng(0)

    def perturbed(leaf):
        change = 1 + perturbation * random.choice([-1, 1], leaf.shape)
        return (np.asarray(leaf) * change).astype(leaf.dtype)

    state = first.state.replace(params=jax.tree.map(perturbed, first.state.params))
    state = steps.replicate(state, to_donate=True)
    placed, _ = first.place(state, splits.train)
    batches = epoch_batches(len(splits.train), config.train.batch_size, seed=config.seed, epoch=0)[
        :count
    ]
    feed = steps.Feed(placed, batches, most=min(config.train.steps_per_dispatch, len(batches)))
    found = []
    while len(found) < len(batches):
        taken = feed.ready()
        state, metrics = first.train(state, *feed.take(taken))
        found.extend(steps.per_step(metrics, taken)[0])
    return np.array(found)


def rows(name: str, curves: dict[str, np.ndarray]) -> list[str]:
    """Of the table: the loss without Winograd, and how far the two others are from it."""
    base = curves["without"]
    numbers = [number for number in SHOWN if number <= len(base)]
    differences = [np.abs(curves[variant] - base) for variant in ("Winograd", "perturbed")]
    cells = [(base[n - 1], *(difference[n - 1] for difference in differences)) for n in numbers]
    return [
        f"| {name} | {n} | {a:.6f} | {b:.1e} | {c:.1e} |"
        for n, (a, b, c) in zip(numbers, cells, strict=True)
    ]


def draw(curves: dict[str, dict[str, np.ndarray]]) -> Figure:
    """The losses above, their differences from those without Winograd below."""
    figure = Figure(figsize=(5.5 * len(curves), 6), layout="constrained")
    axes = figure.subplots(2, len(curves), squeeze=False)
    for (name, of_config), (above, below) in zip(curves.items(), axes.T, strict=True):
        for (variant, values), style in zip(of_config.items(), ("-", "--", ":"), strict=True):
            number = np.arange(1, len(values) + 1)
            above.plot(number, values, style, label=variant)
            if variant != "without":
                below.semilogy(
                    number,
                    np.abs(values - of_config["without"]),
                    style,
                    label=f"{variant} - without",
                )
        above.set(title=name, ylabel="training loss")
        below.set(xlabel="step", ylabel="difference of the loss")
        above.legend()
        below.legend()
    return figure


if __name__ == "__main__":
    main(sys.argv[1:])
