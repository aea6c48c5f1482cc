"""Many steps in one dispatch: the host waits once for K steps of training, or for K batches of logits.

The number of steps is an argument, not part of the compiled program: the last dispatch of an epoch, or
a resumed one, runs the same code and so gives the same bits.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import clu.metrics
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from imgcls_jax.data.batches import filled_batches
from imgcls_jax.data.streaming import Streamed
from imgcls_jax.data.transforms import Transform
from imgcls_jax.data.views import VIEWS, View
from imgcls_jax.models import cpu_kernels
from imgcls_jax.training import operations, parallel
from imgcls_jax.training.adapt import EVERYTHING, Adaptation
from imgcls_jax.training.inputs import make_batch
from imgcls_jax.training.state import TrainState
from imgcls_jax.training.train_step import Recipe, eval_step, train_step


@dataclasses.dataclass(frozen=True)
class TrainSteps:
    """`steps(state, data, indices, count) -> (state, metrics of each step)`, in one dispatch.

    data: images on the devices and targets, as of `inputs.place`. indices: as of
    `parallel.split_batches`, K batches of which the first `count` are taken. rows: where their images
    are, if not at `indices`. The state given is donated.
    """

    program: Callable
    root: jax.Array  # an argument of the compiled program, which then serves every seed

    def __call__(
        self,
        state: TrainState,
        data: tuple[jax.Array, Any],
        indices: np.ndarray,
        count: int,
        rows: np.ndarray | None = None,
    ) -> tuple[TrainState, clu.metrics.Collection]:
        if rows is None:
            rows = indices
        return self.program(self.root, state, *data, rows, indices, np.int32(count))

    def arguments(self, state: TrainState, data: tuple[Any, Any], indices: Any) -> tuple:
        """Returns what the program of one step gets: arrays, or their shapes to compile it for."""
        return (self.root, state, *data, indices, indices, np.int32(1))

    def flops(self, state: TrainState, data: tuple[jax.Array, Any], indices: np.ndarray) -> float:
        """Returns the floating point operations of one step on all devices, as XLA counts them.

        XLA counts the body of a loop once: the products of its other rounds are added.
        """
        arguments = self.arguments(state, data, indices)
        counted = self.program.lower(*arguments).cost_analysis()["flops"]
        jaxpr = jax.make_jaxpr(self.program)(*arguments).jaxpr
        all_rounds = operations.multiply_adds(jaxpr)
        one_round = operations.multiply_adds(jaxpr, repeats_loops=False)
        return (counted + 2 * (all_rounds - one_round)) * jax.device_count()


# Tracing takes seconds for deep models, and a step is traced for its shapes and in the loop.
_traced_once = functools.partial(jax.jit, inline=True)


def make_train(
    recipe: Recipe,
    transform: Transform,
    *,
    steps_per_epoch: int,
    seed: int,
    winograd: bool = True,
    backend: str = "pmap",
) -> TrainSteps:
    """Compiles training steps of a recipe; random numbers depend on seed, step and position in the batch.

    winograd: as of `cpu_kernels.use`. backend: as of `parallel.data_parallel`.
    """

    @_traced_once
    @cpu_kernels.use(winograd=winograd)
    def step(root, state, images, targets, rows, indices):
        batch_key, dropout_key = jax.random.split(jax.random.fold_in(root, state.step))
        batch = make_batch(
            images,
            targets,
            rows,
            indices,
            transform=transform,
            num_views=recipe.objective.num_views,
            key=batch_key,
            epoch=state.step // steps_per_epoch,
        )
        return train_step(state, batch, dropout_key, recipe)

    def steps(root, state, images, targets, rows, indices, count):
        _, shapes = jax.eval_shape(step, root, state, images, targets, rows[0], indices[0])
        stacked = jax.tree.map(lambda s: jnp.zeros((len(indices), *s.shape), s.dtype), shapes)

        def body(i, carry):
            state, stacked = carry
            state, metrics = step(root, state, images, targets, rows[i], indices[i])
            return state, jax.tree.map(lambda all, new: all.at[i].set(new), stacked, metrics)

        return lax.fori_loop(0, count, body, (state, stacked))

    program = parallel.data_parallel(
        steps,
        in_axes=(None, None, None, None, 0, 0, None),
        out_axes=None,
        donate_argnums=(1,),
        backend=backend,
    )
    return TrainSteps(program, jax.random.key(seed))


def make_predict(
    model: nn.Module,
    transform: Transform,
    *,
    batch_size: int,
    tta: Sequence[tuple[float, View]] = VIEWS["none"],
    adaptation: Adaptation = EVERYTHING,
    method: str | Callable = "__call__",
    winograd: bool = True,
    across_processes: bool = False,
    backend: str = "pmap",
) -> Callable[[Any, jax.Array | Streamed], np.ndarray]:
    """Returns predict(variables, images) -> logits float32 [N, K], or what another `method` gives.

    variables: replicated. images: as of `inputs.place_images`. The last batch is filled up with the
    first images, whose logits there are dropped.

    Args:
        model: a Flax module.
        transform: what is done to the images.
        batch_size: images a step, over all devices.
        tta: as of `eval_step`.
        adaptation: how `variables` become those of the model.
        method: of the model, or a function of the model and its images.
        winograd: as of `cpu_kernels.use`.
        across_processes: whether several processes share the work, so that all must call it.
        backend: as of `parallel.data_parallel`.
    """

    @_traced_once
    @cpu_kernels.use(winograd=winograd)
    def step(variables, images, indices):
        return eval_step(model, variables, transform(images[indices]), tta=tta, method=method)

    def steps(variables, images, indices, count):
        variables = {**variables, "params": adaptation.merge(variables["params"])}
        shape = jax.eval_shape(step, variables, images, indices[0]).shape
        outputs = jnp.zeros((len(indices), *shape), jnp.float32)

        def body(i, outputs):
            return outputs.at[i].set(step(variables, images, indices[i]))

        return lax.fori_loop(0, count, body, outputs)

    program = parallel.data_parallel(
        steps,
        in_axes=(None, None, 0, None),
        devices=None if across_processes else jax.local_devices(),
        backend=backend,
    )

    def predict(variables, images) -> np.ndarray:
        batches = filled_batches(len(images), batch_size)
        most = len(batches)
        windows = [(images, batches)]
        if isinstance(images, Streamed):
            most = min(most, images.steps(batch_size))
            windows = images.windows(batches, place=parallel.replicate, most=most)
        parts = []
        for placed, rows in windows:
            indices = parallel.split_batches(rows, most, across_processes=across_processes)
            outputs = program(variables, placed, indices, np.int32(len(rows)))
            outputs = parallel.gather_processes(outputs) if across_processes else outputs
            outputs = np.asarray(outputs).swapaxes(0, 1)[: len(rows)]  # [steps, devices, B, ...]
            parts.append(outputs.reshape(len(rows) * batch_size, *outputs.shape[3:]))
        return np.concatenate(parts)[: len(images)]

    return predict
