"""Where a run's figures go besides TensorBoard: to MLflow, or to any writer of CLU's interface."""

import functools
import importlib
import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any

from imgcls_jax.errors import ConfigError, RunError, pip_install
from imgcls_jax.run.folder import TRACKER, RunFolder

log = logging.getLogger(__name__)

MLFLOW = "imgcls_jax.training.mlflow_writer:MlflowWriter"


def writer_class(tracker: str) -> type:
    """Returns the class of clu.metric_writers.MetricWriter that `train.tracker` names.

    tracker: "mlflow", or "package.module:Class". Raises ConfigError if there is no such class.
    """
    path = tracker
    if tracker == "mlflow":
        path = MLFLOW
    module_name, _, class_name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, TypeError, ValueError) as error:
        remedy = "Give mlflow, or package.module:Class."
        if tracker == "mlflow":
            remedy = f"{pip_install('mlflow')} brings it."
        raise ConfigError(
            f"train.tracker is {tracker!r}, which cannot be imported ({error}). {remedy}"
        ) from error
    from clu.metric_writers import MetricWriter

    writer = vars(module).get(class_name)
    if not (inspect.isclass(writer) and issubclass(writer, MetricWriter)):
        raise ConfigError(
            f"train.tracker is {tracker!r}, and {module_name} has no clu.metric_writers.MetricWriter "
            f"of the name {class_name!r}."
        )
    return writer


class Tracker:
    """Passes on to a writer what it has not been given before.

    A resumed run writes its figures again, since TensorBoard's files are made again. A tracker keeps
    what it was given: the run's folder remembers the last step of each figure, in tracker.json, and
    steps never go backwards. Figures are passed on by `flush`, after they are remembered. A writer
    that fails then does not end the training: it is given them again by the next `flush`. Raises
    RunError if the writer cannot be opened.
    """

    def __init__(self, run: RunFolder, hyperparameters: Mapping[str, Any]):
        self._run = run
        self._name = run.config.train.tracker
        self._last_steps = _read_last_steps(run)
        self._passed_on = dict(self._last_steps)
        self._waiting: list[Callable[[], None]] = []
        try:
            self._writer = writer_class(self._name)(str(run.path))
            if not self._last_steps:
                self._writer.write_hparams(dict(hyperparameters))
        except Exception as error:  # a writer can raise anything
            raise RunError(
                f"train.tracker is {self._name!r}, which cannot be written to "
                f"({_one_line(error)}). Without it: --config.train.tracker=''."
            ) from error

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        self._add(self._writer.write_scalars, step, scalars)

    def write_images(self, step: int, images: Mapping[str, Any]) -> None:
        self._add(self._writer.write_images, step, images)

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        self._add(self._writer.write_texts, step, texts)

    def write_hparams(self, hyperparameters: Mapping[str, Any]) -> None:
        """Does nothing: the writer was given them at its start."""

    def _add(self, write: Callable, step: int, values: Mapping[str, Any]) -> None:
        """Keeps what the writer has not been given before, for `flush` to write."""
        new_values = {}
        for name, value in values.items():
            if step > self._last_steps.get(name, -1):
                self._last_steps[name] = step
                new_values[name] = value
        if new_values:
            self._waiting.append(functools.partial(write, step, new_values))

    def flush(self) -> None:
        self._run.write_json(TRACKER, self._last_steps)
        try:
            while self._waiting:
                self._waiting[0]()
                del self._waiting[0]
            self._writer.flush()
        except Exception as error:
            self._run.write_json(TRACKER, self._passed_on)
            self._warn(error)
        else:
            self._passed_on = dict(self._last_steps)

    def close(self) -> None:
        self.flush()
        try:
            self._writer.close()
        except Exception as error:
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        log.warning(
            "The tracker %s was not given the newest figures (%s). The run's folder has them.",
            self._name,
            _one_line(error),
        )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _read_last_steps(run: RunFolder) -> dict[str, int]:
    """Returns the last step that the tracker was given of each figure."""
    if not (run.path / TRACKER).exists():
        return {}
    last_steps = run.read_json(TRACKER)
    is_whole = isinstance(last_steps, dict)
    if not is_whole or not all(isinstance(step, int) for step in last_steps.values()):
        raise RunError(
            f"{run.path / TRACKER} is damaged. Without it the tracker is given the run's figures "
            "again: delete it."
        )
    return last_steps
