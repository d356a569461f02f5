"""Summaries for MLflow, in the store that MLFLOW_TRACKING_URI names."""

import contextlib
import logging
import os
import pathlib
import re
import time
import warnings
from collections.abc import Iterator
from typing import Any

import filelock
import requests

from cifar_jax.errors import UserError
from cifar_jax.writers.base import RunInfo, Summary
from cifar_jax.writers.tracker import Tracker, reason

# MLflow's names consist of the other characters.
_FORBIDDEN = re.compile(r"[^\w\-. /:]", re.ASCII)
# The limits of one request.
_PARAMS, _METRICS = 100, 1000
_SQLITE = "sqlite:///"
# MLflow itself tries for minutes.
_REACH_SECS = 10


class MLflow(Tracker):
    """Writes a run of MLflow, without histograms, which MLflow does not have.

    Without MLFLOW_TRACKING_URI, the store is the one that the run has used before, or
    MLflow's own default, the file mlflow.db in the current folder.
    """

    name = "mlflow"
    title = "MLflow"

    def __init__(self, experiment: str = "cifar_jax"):
        self._experiment = experiment

    def start(self, directory: pathlib.Path, run: RunInfo) -> str:
        """Starts or continues the run.

        Raises:
            UserError: the store cannot be used, or no longer has the run.
        """
        import mlflow

        # It logs each table that it creates in a new store.
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        kept = self.recall(run)
        uri = mlflow.get_tracking_uri()
        if kept is not None and "MLFLOW_TRACKING_URI" not in os.environ:
            uri = kept["tracking_uri"]
        self._trains = run.start is not None
        with _starting(uri, None if kept is None else run.path / "mlflow.json"):
            self._client: Any = mlflow.MlflowClient(uri)
            if kept is None:
                found = self._client.create_run(
                    self._find_experiment(), run_name=str(run.path)
                )
            else:
                found = self._client.get_run(kept["run_id"])
            self._id = found.info.run_id
            if self._trains:
                self._client.update_run(self._id, "RUNNING")
                self._record_settings(run, found.data.params)
        self.remember(run, {"run_id": self._id, "tracking_uri": uri})
        if uri.startswith("http"):
            page = f"experiments/{found.info.experiment_id}/runs/{self._id}"
            return f"MLflow: {uri.rstrip('/')}/#/{page}"
        return f"MLflow: run {self._id} in {uri}"

    def record(self, summary: Summary) -> None:
        """Logs the numbers, images and pages of a summary."""
        from mlflow.entities import Metric

        step, now = summary.step, int(time.time() * 1000)
        metrics = [
            Metric(_FORBIDDEN.sub("_", summary.prefix + name), value, now, step)
            for name, value in summary.scalars.items()
        ]
        for start in range(0, len(metrics), _METRICS):
            part = metrics[start : start + _METRICS]
            self._client.log_batch(self._id, metrics=part)
        for name, image in summary.images.items():
            key = _FORBIDDEN.sub("_", summary.prefix + name)
            self._client.log_image(self._id, image, key=key, step=step)
        for name, page in summary.pages.items():
            path = f"{summary.prefix}{name}_{step}.html"
            self._client.log_text(self._id, page, path)

    def finish(self, error: BaseException | None) -> None:
        """Marks the run as finished, failed, or killed, unless it was evaluated."""
        status = "FINISHED" if error is None else "FAILED"
        if isinstance(error, KeyboardInterrupt):
            status = "KILLED"
        if self._trains:
            self._client.set_terminated(self._id, status)

    def _find_experiment(self) -> str:
        """Returns the id of the experiment, which is created if there is none."""
        found = self._client.get_experiment_by_name(self._experiment)
        if found is not None:
            return str(found.experiment_id)
        return str(self._client.create_experiment(self._experiment))

    def _record_settings(self, run: RunInfo, known: dict[str, str]) -> None:
        """Records settings as params; as tags where a resumed run changes them."""
        from mlflow.entities import Param, RunTag

        texts = {name: str(value) for name, value in run.config.items()}
        params = [Param(k, v) for k, v in texts.items() if k not in known]
        for start in range(0, len(params), _PARAMS):
            part = params[start : start + _PARAMS]
            self._client.log_batch(self._id, params=part)
        tags = [
            RunTag(k, texts[k]) for k in texts.keys() & known if texts[k] != known[k]
        ]
        self._client.log_batch(self._id, tags=tags)


@contextlib.contextmanager
def _starting(uri: str, record: pathlib.Path | None) -> Iterator[None]:
    """A context for the first calls: its errors are those of the user's store."""
    # About the tables of a new store, and about MLflow's own use of SQLAlchemy.
    with warnings.catch_warnings(action="ignore"), contextlib.ExitStack() as stack:
        try:
            if uri.startswith("http"):
                requests.head(uri, timeout=_REACH_SECS)
            elif uri.startswith(_SQLITE):
                # Two processes that create the same store would destroy it.
                path = uri.removeprefix(_SQLITE) + ".lock"
                stack.enter_context(filelock.FileLock(path))
            yield
        except Exception as error:
            unreachable = isinstance(error, requests.RequestException)
            why = "it does not answer" if unreachable else reason(error)
            delete = f", or delete {record} to start another run" if record else ""
            raise UserError(
                f"--writers=mlflow cannot use the store {uri}: {why}; set "
                f"MLFLOW_TRACKING_URI to a server or to sqlite:///FILE{delete}"
            ) from None
