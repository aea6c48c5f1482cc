"""Losses of training with Winograd and without: python -m benchmarks.curves --steps 100

Trains the first steps of a config three times on its data, from the same parameters and on the same
batches: without Winograd, with it, and without it from parameters each changed by a relative 1e-7.
The third shows how far rounding alone drives two trainings apart. Prints a table and writes a
picture.
"""

import importlib
import sys
from pathlib import Path

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from benchmarks.common import command_line, machine, progress
from imgcls_jax import backend, data
from imgcls_jax.data.batches import epoch_batches
from imgcls_jax.training import inputs, metrics, parallel, setup

WITHOUT = "without"
WINOGRAD = "Winograd"
PERTURBED = "perturbed"
PERTURBATION = 1e-7
STYLES = {WITHOUT: "-", WINOGRAD: "--", PERTURBED: ":"}
SHOWN_STEPS = (1, 2, 5, 10, 25, 50, 75, 100)

Curves = dict[str, np.ndarray]  # losses float64 [steps] of each variant


def main(arguments: list[str]) -> None:
    parser = command_line("benchmarks.curves", __doc__)
    parser.add_argument(
        "--configs",
        default="cifar_se_resnet,cifar_resnet20",
        help="of configs/, comma-separated",
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
        curves[name] = train(name, options.steps)
        print("\n".join(rows(name, curves[name])), flush=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    draw(curves).savefig(options.output, dpi=120)
    print(f"\n{options.output}")


def train(name: str, num_steps: int) -> Curves:
    """Trains each variant of the config `name` for a number of steps."""
    config = importlib.import_module(f"configs.{name}").get_config()
    splits = data.load(config.data)
    curves = {}
    for variant in (WITHOUT, WINOGRAD, PERTURBED):
        progress(f"{name}: {variant}")
        config.train.winograd = variant == WINOGRAD
        perturbation = 0.0
        if variant == PERTURBED:
            perturbation = PERTURBATION
        curves[variant] = losses(config, splits, num_steps, perturbation)
    return curves


def losses(
    config: ConfigDict,
    splits: data.Splits,
    num_steps: int,
    perturbation: float,
) -> np.ndarray:
    """Returns the losses of the first steps, float64 [num_steps]."""
    first_phase, *_ = setup.build(config, splits)
    state = first_phase.drawn_state()
    state = state.replace(params=perturb(state.params, perturbation))
    state = parallel.replicate(state, to_donate=True)
    placed, _ = first_phase.place(state, splits.train)
    batches = epoch_batches(
        len(splits.train),
        config.train.batch_size,
        seed=config.seed,
        epoch=0,
    )
    batches = batches[:num_steps]
    most = min(config.train.steps_per_dispatch, len(batches))
    feed = inputs.Feed(placed, batches, most=most)
    all_losses = []
    while len(all_losses) < len(batches):
        count = feed.ready()
        state, stacked = first_phase.train(state, *feed.take(count))
        dispatch_losses = metrics.totals(stacked, count)["loss"] / config.train.batch_size
        all_losses.extend(dispatch_losses)
    return np.array(all_losses)


def perturb(params, relative: float):
    """Returns the parameters, each changed by this share of itself, up or down."""
    rng = np.random.default_rng(0)

    def perturb_leaf(leaf):
        factor = 1 + relative * rng.choice([-1, 1], leaf.shape)
        return (np.asarray(leaf) * factor).astype(leaf.dtype)

    return jax.tree.map(perturb_leaf, params)


def rows(name: str, curves: Curves) -> list[str]:
    """Returns rows of the table: the loss without Winograd, and how far the others are from it."""
    base = curves[WITHOUT]
    winograd = np.abs(curves[WINOGRAD] - base)
    perturbed = np.abs(curves[PERTURBED] - base)
    lines = []
    for step in SHOWN_STEPS:
        if step <= len(base):
            i = step - 1
            cells = f"{base[i]:.6f} | {winograd[i]:.1e} | {perturbed[i]:.1e}"
            lines.append(f"| {name} | {step} | {cells} |")
    return lines


def draw(curves: dict[str, Curves]) -> Figure:
    """Draws the losses, and below them their differences from those without Winograd."""
    figure = Figure(figsize=(5.5 * len(curves), 6), layout="constrained")
    axes = figure.subplots(2, len(curves), squeeze=False)
    for (name, config_curves), (above, below) in zip(curves.items(), axes.T, strict=True):
        _draw_config(above, below, config_curves)
        above.set(title=name, ylabel="training loss")
        below.set(xlabel="step", ylabel="difference of the loss")
    return figure


def _draw_config(
    above: Axes,
    below: Axes,
    curves: Curves,
) -> None:
    for variant, values in curves.items():
        step = np.arange(1, len(values) + 1)
        style = STYLES[variant]
        above.plot(step, values, style, label=variant)
        if variant != WITHOUT:
            difference = np.abs(values - curves[WITHOUT])
            below.semilogy(step, difference, style, label=f"{variant} - without")
    above.legend()
    below.legend()


if __name__ == "__main__":
    main(sys.argv[1:])
