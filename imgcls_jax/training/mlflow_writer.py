"""CLU's interface of writers for MLflow: one of its runs for each run folder."""

import time
from typing import Any

import numpy as np
from clu.metric_writers import MetricWriter
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

from imgcls_jax.run.folder import MLFLOW, RunFolder

MAX_METRICS = 1000  # that MLflow takes at once
MAX_PARAMS = 100
MAX_CHARACTERS = 6000  # of a parameter


class MlflowWriter(MetricWriter):
    """Writes to MLflow's usual place: $MLFLOW_TRACKING_URI, or mlflow.db in the working folder.

    folder: the run's; its name is that of MLflow's run, and its parent's that of the experiment. A
    resumed run goes on in the same one.
    """

    def __init__(self, folder: str):
        self._client = MlflowClient()
        run = RunFolder(folder)
        self._run_id = self._resume(run) or self._create(run)
        self._metrics: list[Metric] = []

    def _resume(self, run: RunFolder) -> str | None:
        """Returns the id of the run that the folder names, if MLflow still has it."""
        if not (run.path / MLFLOW).exists():
            return None
        run_id = run.read_json(MLFLOW)["run_id"]
        try:
            self._client.update_run(run_id, status="RUNNING")
        except MlflowException:  # it was deleted
            return None
        return run_id

    def _create(self, run: RunFolder) -> str:
        experiment_id = self._experiment(run.path.resolve().parent.name)
        run_id = self._client.create_run(experiment_id, run_name=run.name).info.run_id
        run.write_json(MLFLOW, {"run_id": run_id})
        return run_id

    def _experiment(self, name: str) -> str:
        """Returns the id of the experiment of that name, which is created if it is not there."""
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            try:
                return self._client.create_experiment(name)
            except MlflowException:  # another process may just have created it
                experiment = self._client.get_experiment_by_name(name)
                if experiment is None:
                    raise
        return experiment.experiment_id

    def write_scalars(self, step, scalars):
        now = int(1000 * time.time())
        for name, value in scalars.items():
            self._metrics.append(Metric(name, float(value), now, step))

    def write_hparams(self, hparams: dict[str, Any]):
        params = [Param(name, str(value)[:MAX_CHARACTERS]) for name, value in hparams.items()]
        for start in range(0, len(params), MAX_PARAMS):
            self._client.log_batch(self._run_id, params=params[start : start + MAX_PARAMS])

    def write_texts(self, step, texts):
        for name, text in texts.items():
            self._client.log_text(self._run_id, text, f"{name}.md")

    def write_images(self, step, images):
        for name, pixels in images.items():
            image = np.asarray(pixels).reshape(pixels.shape[-3:])
            self._client.log_image(self._run_id, image, f"{name}.png")

    def flush(self):
        for start in range(0, len(self._metrics), MAX_METRICS):
            batch = self._metrics[start : start + MAX_METRICS]
            self._client.log_batch(self._run_id, metrics=batch)
        self._metrics = []

    def close(self):
        self.flush()
        self._client.set_terminated(self._run_id)

    # A run has none of these.

    def write_summaries(self, step, values, metadata=None):
        raise NotImplementedError

    def write_videos(self, step, videos):
        raise NotImplementedError

    def write_audios(self, step, audios, *, sample_rate):
        raise NotImplementedError

    def write_histograms(self, step, arrays, num_buckets=None):
        raise NotImplementedError

    def write_pointcloud(self, step, point_clouds, *, point_colors=None, configs=None):
        raise NotImplementedError
