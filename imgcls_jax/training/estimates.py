"""How long a run would take, from a few of its steps and from what it does besides."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
from ml_collections import ConfigDict

from imgcls_jax import trees
from imgcls_jax.data import Splits
from imgcls_jax.data.batches import epoch_batches
from imgcls_jax.training import inputs, parallel, setup
from imgcls_jax.training import phases as phases_of

PROBED_BATCHES = 8
DISPATCH_SECONDS = 0.1  # of the steps that are timed together
TIMED_SECONDS = 0.4  # of all calls that are timed
MAX_CALLS = 50  # that are timed
# How long a run does other things, in imports of this package: both are work of Python on one core.
CHECKPOINT = 0.12  # an epoch's checkpoint and its lines in the logs
REPORT = 3.5  # TensorBoard's files, the pictures and the page
CACHE_EVENT = "/jax/compilation_cache/compile_time_saved_sec"


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a run would be, for any number of epochs."""

    parameters: int
    trainable: int  # in the last phase
    features: float  # seconds of the features that are computed once
    per_epoch: tuple[float, ...]  # seconds of an epoch of each phase, with validation
    start: float = 0.0  # seconds of imports, reading the data and compiling
    end: float = 0.0  # seconds of the test and the report

    def seconds(self, config: ConfigDict, *, done: int = 0) -> float:
        """Returns the time that a run of the config takes, at most: it may stop early.

        done: epochs that the run has behind it.
        """
        epochs = epochs_of(config)
        training = 0.0
        if done < sum(epochs):
            training = self.features
        for count, seconds in zip(epochs, self.per_epoch, strict=True):
            behind = min(done, count)
            training += (count - behind) * seconds
            done -= behind
        return self.start + training + self.end


def epochs_of(config: ConfigDict) -> list[int]:
    """Returns the epochs of each phase of a config, at most."""
    return [phase.train.epochs for phase in phases_of.of(config).values()]


def mean(estimates: Sequence[Estimate]) -> Estimate:
    """Returns an estimate whose times are the means of these; its parameters are the first's."""
    phases = np.mean([estimate.per_epoch for estimate in estimates], axis=0)
    return dataclasses.replace(
        estimates[0],
        features=float(np.mean([estimate.features for estimate in estimates])),
        per_epoch=tuple(phases.tolist()),
        start=float(np.mean([estimate.start for estimate in estimates])),
        end=float(np.mean([estimate.end for estimate in estimates])),
    )


def estimate(
    config: ConfigDict, data: Splits, *, importing: float = 0.0, loading: float = 0.0
) -> Estimate:
    """Measures a few steps of each phase, and an evaluation of a batch of images.

    Distillation is measured as training on labels alone. Compiling counts in full, also where the
    compilation cache has the program.

    Args:
      config: of a run.
      data: the whole data set, of which a few images are used.
      importing: seconds that a process takes to import this package.
      loading: seconds that it takes to read the data.
    """
    config = config.copy_and_resolve_references()
    if "teacher" in config.objective:
        config.objective = ConfigDict()
    with _compile_time_saved() as saved:
        started = time.process_time()
        setups = setup.build(config, data)
        setups[0].drawn_state()  # compiles what draws weights, for all phases
        building = time.process_time() - started
        times = [_measure(phase, data) for phase in setups]
    compiling = building + sum(phase.compiling for phase in times) + sum(saved)
    last = setups[-1]
    trainable, _ = last.adaptation.split(last.shapes.params)
    return Estimate(
        parameters=trees.count(last.shapes.params),
        trainable=trees.count(trainable),
        features=sum(phase.features for phase in times),
        per_epoch=tuple(phase.epoch + CHECKPOINT * importing for phase in times),
        start=importing + loading + compiling,
        end=times[-1].test + REPORT * importing,
    )


@contextlib.contextmanager
def _compile_time_saved() -> Iterator[list[float]]:
    """Yields a list that gets the seconds which the compilation cache saves meanwhile."""
    saved: list[float] = []

    def listen(event: str, seconds: float, **_) -> None:
        if event == CACHE_EVENT:
            saved.append(max(seconds, 0.0))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield saved
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@dataclasses.dataclass(frozen=True)
class _Times:
    """Seconds of a phase."""

    compiling: float
    features: float  # that are computed once; 0 without
    epoch: float  # with validation
    test: float  # of predicting the test and validation images at the end, with compiling


def _measure(phase: setup.Setup, data: Splits) -> _Times:
    settings = phase.config.train
    num_train = min(len(data.train), PROBED_BATCHES * settings.batch_size)
    num_validation = min(len(data.validation), settings.eval_batch_size)
    images, targets = inputs.place(data.train.take(np.arange(num_train)))
    validation_images, _ = inputs.place(data.validation.take(np.arange(num_validation)))
    state = parallel.replicate(phase.drawn_state(), to_donate=True)
    variables = state.variables
    validation_batches = _num_batches(len(data.validation), settings.eval_batch_size)
    test_batches = validation_batches + _num_batches(len(data.test), settings.eval_batch_size)
    embedding = _Timing(0.0, 0.0)
    if phase.embed:
        embedding = _time(lambda: phase.embed(variables, validation_images))
        images = parallel.replicate(phase.embed(variables, images))
        validation_images = parallel.replicate(phase.embed(variables, validation_images))
    predicting = _time(lambda: phase.predict(variables, validation_images))
    batches = epoch_batches(num_train, settings.batch_size, seed=phase.config.seed, epoch=0)
    indices = parallel.split_batches(batches, len(batches))

    def dispatch(count):
        nonlocal state
        state, metrics = phase.train(state, (images, targets), indices, count)
        return metrics

    step = _time(lambda: dispatch(1))
    count = min(int(DISPATCH_SECONDS / step.seconds), len(batches))
    step_seconds = step.seconds
    if count > 1:
        step_seconds = _fastest(lambda: dispatch(count)) / count
    feature_batches = validation_batches + _num_batches(len(data.train), settings.eval_batch_size)
    evaluating = predicting.seconds * validation_batches
    return _Times(
        compiling=step.compiling + predicting.compiling + embedding.compiling,
        features=embedding.seconds * feature_batches,
        epoch=step_seconds * phase.steps_per_epoch + evaluating,
        test=predicting.compiling + (predicting.seconds + embedding.seconds) * test_batches,
    )


def _num_batches(num_images: int, batch_size: int) -> int:
    """Returns the batches of an evaluation, of which the last is filled up."""
    return -(-num_images // batch_size)


@dataclasses.dataclass(frozen=True)
class _Timing:
    """Seconds of a call, and those that its first time takes longer."""

    compiling: float
    seconds: float


def _time(call: Callable[[], object]) -> _Timing:
    """Times a call. Compiling counts the processor's time: what else runs does not add to it."""
    started = time.process_time()
    first = _seconds(call)
    first = min(first, time.process_time() - started)
    seconds = _fastest(call)
    return _Timing(max(first - seconds, 0.0), seconds)


def _fastest(call: Callable[[], object]) -> float:
    """Returns the shortest time of some calls: what else the machine does makes others longer."""
    times: list[float] = []
    while not times or (sum(times) < TIMED_SECONDS and len(times) < MAX_CALLS):
        times.append(_seconds(call))
    return min(times)


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - started
