"""The pure steps of training and prediction, and the one place that knows of devices.

A dispatch runs up to K steps without the host: images lie on the device as uint8, each step gathers its batch by row,
transforms it, and works on it. An image's row is its index in the data set where all of it lies there; otherwise a
window of the epoch does, and the row is its place in that (`Feed`). The number of steps is an argument, not part of the
compiled program: the last dispatch of an epoch, or a resumed one, runs the same code and so gives the same bits.
`jax.pmap` splits each batch over the devices; everything is averaged over them, so that their number changes nothing
but rounding. Of several processes each feeds its own devices their part of the batch.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from clu import metrics
from flax import linen as nn
from jax import lax
from jax.experimental import multihost_utils
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from imgcls_jax import trees
from imgcls_jax.data.batches import filled_batches
from imgcls_jax.data.dataset import Dataset
from imgcls_jax.data.lazy_images import Images
from imgcls_jax.data.streaming import Streamed
from imgcls_jax.data.transforms import Transform
from imgcls_jax.data.views import VIEWS, View
from imgcls_jax.errors import ConfigError
from imgcls_jax.models import cpu_kernels
from imgcls_jax.models.batch_axis import AXIS, mean_over_devices
from imgcls_jax.training.adapt import EVERYTHING, Adaptation
from imgcls_jax.training.objectives import LABELS, Labels
from imgcls_jax.training.schedules import Schedule
from imgcls_jax.training.state import TrainState


@flax.struct.dataclass
class Metrics(metrics.Collection):
    """Loss and accuracy of a batch; every field of a dispatch's metrics has a leading axis of K steps."""

    loss: metrics.Average.from_output("loss")
    accuracy: metrics.Accuracy


def check_batch_size(name: str, size: int) -> None:
    """Raises ConfigError where `size` examples cannot be split evenly over the devices."""
    devices = jax.device_count()
    if size < 1 or size % devices:
        near = max(devices, round(size / devices) * devices)
        raise ConfigError(
            f"{name} is {size}, which cannot be split evenly over {devices} devices: give {near}, say."
        )


def replicate(tree: Any, *, to_donate: bool = False) -> Any:
    """The tree on every device of this process, in memory that it may share with the one given.

    to_donate: whether in memory of its own, as the state that a training step is given: the step takes that memory.
    """
    mesh = Mesh(np.array(jax.local_devices()), (AXIS,))
    if to_donate:
        tree = jax.tree.map(jnp.copy, tree)
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def fetch(tree: Any) -> Any:
    """The first device's copy of a replicated tree, as NumPy arrays that later steps do not overwrite."""
    return jax.tree.map(lambda leaf: np.array(leaf.addressable_data(0)), tree)


def initialize(
    model: nn.Module, transform: Transform, images: np.ndarray, *, seed: int
) -> tuple[Any, Any]:
    """Parameters and model state for images like `images` uint8 [B, H, W, C].

    Raises ConfigError where the model cannot take images of that size.
    """
    x = transform(images[:1])
    try:
        variables = jax.jit(model.init)(jax.random.key(seed), x)
        if not all(leaf.size for leaf in jax.tree.leaves(variables)):
            raise ValueError("nothing of the image is left for its last layers")
    except (TypeError, ValueError, ZeroDivisionError) as error:
        size = "x".join(map(str, x.shape[1:]))
        raise ConfigError(
            f"The model {type(model).__name__} cannot be built for images of {size}: {error}. Another size comes from "
            'the transform, for example --config.data.transform="resize(28)".'
        ) from error
    params = variables.pop("params")
    return params, variables


def per_step(stacked: Metrics, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean loss and number of correct examples, float64 [count] each, of a dispatch's metrics."""
    stacked = fetch(stacked)
    loss, accuracy = stacked.loss, stacked.accuracy
    losses = loss.total[:count].astype(np.float64) / loss.count[:count]
    return losses, accuracy.total[:count].astype(np.float64)


@dataclasses.dataclass(frozen=True)
class TrainSteps:
    """steps(state, data, indices, count) -> (state, metrics of each step): `count` steps in one dispatch.

    data: images on the devices, and targets as of `place`; indices: as of `split`, K batches of which the first `count`
    are taken; rows: where their images lie, if that is not by index. The state given is donated.
    """

    mapped: Callable
    root: jax.Array  # an argument of the compiled program, which then serves every seed

    def __call__(
        self,
        state: TrainState,
        data,
        indices: np.ndarray,
        count: int,
        rows: np.ndarray | None = None,
    ) -> tuple[TrainState, Metrics]:
        return self.mapped(
            self.root, state, *data, indices if rows is None else rows, indices, np.int32(count)
        )

    def flops(self, state: TrainState, data, indices: np.ndarray) -> float:
        """Floating point operations of one step on all devices, as XLA counts them in the program it is given."""
        lowered = self.mapped.lower(self.root, state, *data, indices, indices, np.int32(1))
        return lowered.cost_analysis()["flops"] * jax.device_count()


def make_train(
    model: nn.Module,
    transform: Transform,
    optimizer: optax.GradientTransformation,
    schedule: Schedule,
    *,
    steps_per_epoch: int,
    objective: Labels = LABELS,
    average: float = 0.0,
    adaptation: Adaptation = EVERYTHING,
    method: str = "__call__",
    winograd: bool = True,
    seed: int,
) -> TrainSteps:
    """The training steps; random numbers are keyed by `seed`, the step, and the place in the batch.

    objective: what is learned from. average: decay of the running average, where the state has one. adaptation: what
    trains. method: the model's, from what `transform` gives to logits. winograd: as of `cpu_kernels.use`.
    """

    @cpu_kernels.use(winograd=winograd)
    def step(
        root, state: TrainState, images, targets_of_all, row, index
    ) -> tuple[TrainState, Metrics]:
        # Random numbers are keyed by (seed, step, place in the global batch): the number of devices is not in them.
        augment_key, dropout_key = jax.random.split(jax.random.fold_in(root, state.step))
        places = lax.axis_index(AXIS) * len(index) + jnp.arange(len(index))
        epoch = state.step // steps_per_epoch

        def prepared(row, index, places, view=0):
            key = jax.random.fold_in(augment_key, 2**32 - view) if view else augment_key
            keys = jax.vmap(jax.random.fold_in, (None, 0))(key, places)
            target = jax.tree.map(lambda each: each[index], targets_of_all)
            return transform(images[row], keys, examples=index, epoch=epoch), target, keys

        x, target, keys = prepared(row, index, places)
        views = [x, *(prepared(row, index, places, view)[0] for view in range(1, objective.views))]
        targets = [(target, 1.0)]  # and the share of the loss that each has
        if (
            transform.mix
        ):  # an example's partner is the one as far from the global batch's other end
            all_rows, all_indices = (
                lax.all_gather(each, AXIS, tiled=True) for each in (row, index)
            )
            partners = len(all_indices) - 1 - places
            others, other_target, _ = prepared(all_rows[partners], all_indices[partners], partners)
            views[0], share = transform.mix(
                x, others, jax.vmap(jax.random.fold_in, (0, None))(keys, len(transform.ops))
            )
            targets = [(target, share), (other_target, 1 - share)]

        trainable, frozen = adaptation.split(state.params)

        def loss_fn(trainable):
            variables = {
                "params": adaptation.merge(trees.join(trainable, frozen)),
                **state.model_state,
            }

            def apply(inputs, method):
                options = {
                    "train": True,
                    "mutable": list(state.model_state),
                    "rngs": {"dropout": dropout_key},
                }
                return adaptation.apply(model, variables, inputs, method=method, **options)

            losses, logits, model_state = objective(apply, views, targets, method)
            return losses.mean(), (losses, logits, model_state)

        grads, (losses, logits, model_state) = jax.grad(loss_fn, has_aux=True)(trainable)
        grads, model_state = _mean((grads, model_state))
        updates, opt_state = optimizer.update(grads, state.opt_state, trainable)
        rate = schedule(state.step - state.phase_start) * state.rate_scale
        trainable = jax.tree.map(lambda p, u: p - (rate * u).astype(p.dtype), trainable, updates)
        params = trees.join(trainable, frozen)
        state = state.replace(
            step=state.step + 1, params=params, model_state=model_state, opt_state=opt_state
        )
        if state.average:
            # Early on the average forgets faster, so that the initial weights do not linger in it.
            keep = jnp.minimum(average, state.step / (10.0 + state.step))
            new = {"params": params, "model_state": model_state}
            state = state.replace(average=optax.incremental_update(new, state.average, 1 - keep))
        return state, Metrics.gather_from_model_output(
            axis_name=AXIS, loss=losses, logits=logits, labels=target["labels"]
        )

    def dispatch(root, state: TrainState, images, targets, rows, indices, count):
        _, shapes = jax.eval_shape(step, root, state, images, targets, rows[0], indices[0])
        stacked = jax.tree.map(lambda s: jnp.zeros((len(indices), *s.shape), s.dtype), shapes)

        def body(i, carry):
            state, stacked = carry
            state, one = step(root, state, images, targets, rows[i], indices[i])
            return state, jax.tree.map(lambda all, new: all.at[i].set(new), stacked, one)

        return lax.fori_loop(0, count, body, (state, stacked))

    in_axes = (None, None, None, None, 0, 0, None)
    mapped = jax.pmap(
        dispatch, axis_name=AXIS, in_axes=in_axes, out_axes=(None, None), donate_argnums=1
    )
    return TrainSteps(mapped, jax.random.key(seed))


def _mean(tree: Any) -> Any:
    """`mean_over_devices`; between processes of one vector, since every sum over a network takes its time."""
    if jax.process_count() == 1:
        return mean_over_devices(tree)
    vector, as_tree = ravel_pytree(tree)
    return as_tree(mean_over_devices(vector))


def mean_over_views(
    model: nn.Module,
    variables: Any,
    x: jax.Array,
    *,
    views: Sequence[tuple[float, View]] = VIEWS["none"],
    method: str = "__call__",
) -> jax.Array:
    """What `method` of the model gives for x float32 [B, H, W, C] in evaluation: float32, averaged over the views."""
    seen = [model.apply(variables, view(x), train=False, method=method) for _, view in views]
    return sum(
        weight * each.astype(jnp.float32) for (weight, _), each in zip(views, seen, strict=True)
    )


def make_predict(
    model: nn.Module,
    transform: Transform,
    *,
    batch_size: int,
    views: Sequence[tuple[float, View]] = VIEWS["none"],
    adaptation: Adaptation = EVERYTHING,
    method: str = "__call__",
    winograd: bool = True,
    together: bool = False,
) -> Callable[[Any, jax.Array | Streamed], np.ndarray]:
    """Returns predict(variables, images) -> logits float32 [N, K], for variables and images as of `place_images`.

    The logits are the weighted mean over the `views` of an image; of another `method` of the model it gives what that
    one does. The last batch is filled up with the first images, whose logits there are dropped. together: whether
    several processes share the work, so that all must call it; otherwise each has its own. winograd: as of
    `cpu_kernels.use`.
    """

    def dispatch(variables, images, indices, count):
        merged = {**variables, "params": adaptation.merge(variables["params"])}

        @cpu_kernels.use(winograd=winograd)
        def logits(index):
            return mean_over_views(
                model, merged, transform(images[index]), views=views, method=method
            )

        shape = jax.eval_shape(logits, indices[0]).shape
        everything = jnp.zeros((len(indices), *shape), jnp.float32)
        return lax.fori_loop(0, count, lambda i, out: out.at[i].set(logits(indices[i])), everything)

    devices = None if together else jax.local_devices()  # None is all
    mapped = jax.pmap(dispatch, axis_name=AXIS, in_axes=(None, None, 0, None), devices=devices)

    def predict(variables, images) -> np.ndarray:
        indices, found = filled_batches(len(images), batch_size), []
        most, windows = len(indices), [(images, indices)]
        if isinstance(images, Streamed):
            most = min(most, images.steps(batch_size))
            windows = images.windows(indices, place=replicate, most=most)
        for placed, rows in windows:
            logits = mapped(
                variables, placed, split(rows, most, together=together), np.int32(len(rows))
            )
            logits = (
                multihost_utils.process_allgather(logits, tiled=True)
                if together
                else np.asarray(logits)
            )
            logits = logits.swapaxes(0, 1)[: len(rows)]
            found.append(logits.reshape(len(rows) * batch_size, *logits.shape[3:]))
        return np.concatenate(found)[: len(images)]

    return predict


def place(
    dataset: Dataset, *, budget: float | None = None
) -> tuple[jax.Array | Streamed, dict[str, jax.Array]]:
    """Images uint8 [N, H, W, C], as of `place_images`, and targets, as of `Dataset.targets`, whole on each device."""
    return place_images(dataset.images, budget=budget), replicate(dataset.targets)


def place_images(images: Images, *, budget: float | None = None) -> jax.Array | Streamed:
    """Images uint8 [N, H, W, C] whole on every device, or Streamed, if only `budget` bytes of them may lie there."""
    return replicate(np.asarray(images)) if budget is None else Streamed(images, budget)


class Feed:
    """Gives an epoch's steps their images: `count = min(wanted, feed.ready())`, then `train(state, *feed.take(count))`.

    data: as of `place`; batches: those left of the epoch, indices int32 [k, B]; most: steps of a dispatch at most.
    """

    def __init__(self, data: tuple[jax.Array | Streamed, Any], batches: np.ndarray, *, most: int):
        images, self._targets = data
        self._windows, self._streams = iter([(images, batches)]), isinstance(images, Streamed)
        if self._streams:
            self._windows = images.windows(batches, place=replicate, most=most)
        self._batches, self._most = batches, most
        self._images, self._rows = (
            None,
            batches[:0],
        )  # of the window on the devices: what is left of its rows

    def ready(self) -> int:
        """How many steps the next dispatch can have: those on the devices. Where none is left, waits for a window."""
        if not len(self._rows):
            self._images, self._rows = next(self._windows)
        return min(len(self._rows), self._most)

    def take(self, count: int) -> tuple[tuple[jax.Array, Any], np.ndarray, int, np.ndarray | None]:
        """Data, indices, count and rows for the next `count` steps, as TrainSteps takes them."""
        data, rows, indices = (
            (self._images, self._targets),
            self._rows[:count],
            self._batches[:count],
        )
        self._rows, self._batches = self._rows[count:], self._batches[count:]
        if not len(self._rows):
            self._images = None  # so that its memory is free before the next window is looked for
        return (
            data,
            split(indices, self._most),
            count,
            split(rows, self._most) if self._streams else None,
        )


def split(batches: np.ndarray, steps: int, *, together: bool = True) -> np.ndarray:
    """Batches of indices int32 [k, B], k <= steps -> int32 [own devices, steps, B / devices], padded with zeros.

    Of several processes that work `together` each gets its part of B, otherwise all of it.
    """
    k, size = batches.shape
    padded = np.zeros((steps, size), np.int32)
    padded[:k] = batches
    own = jax.local_device_count()
    devices, start = (jax.device_count(), jax.process_index() * own) if together else (own, 0)
    return padded.reshape(steps, devices, -1).swapaxes(0, 1)[start : start + own]
