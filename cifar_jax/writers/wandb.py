"""Summaries for Weights & Biases, online or offline as WANDB_MODE says."""

import os
import pathlib
from typing import Any

from cifar_jax.errors import UserError
from cifar_jax.writers.base import RunInfo, Summary
from cifar_jax.writers.tracker import Tracker, reason

# The x-axis. W&B's own steps only increase, so it would drop what a resumed run
# repeats and what an evaluation adds about an earlier checkpoint.
_STEP = "step"
_INIT_SECS = 30
_WAY_OUT = "log in with `wandb login`, or set WANDB_MODE=offline"
_BUSY = (
    "W&B accepts a run from one process at a time, and training may be in progress: "
    "this evaluation is not recorded there"
)


class WandB(Tracker):
    """Writes a run at W&B, with the id of the run and the name of its directory."""

    name = "wandb"
    title = "W&B"

    def __init__(self, project: str = "cifar_jax", entity: str | None = None):
        self._project = project
        self._entity = entity

    def start(self, directory: pathlib.Path, run: RunInfo) -> str:
        """Starts or continues the run, without asking for a login.

        Offline, its files are in DIRECTORY/wandb, unless WANDB_DIR is set.

        Raises:
            UserError: there is no login, or W&B refuses it or cannot be reached.
        """
        import wandb

        self._run: Any = None
        if run.is_training:
            return _BUSY
        settings = wandb.Settings(silent=True, console="off", init_timeout=_INIT_SECS)
        mode = wandb.setup(settings).settings.mode
        online = mode not in ("offline", "disabled")
        try:
            if online and not wandb.login(prompt=False, verify=False):
                raise UserError(f"--writers=wandb: no API key; {_WAY_OUT}")
            self._run = wandb.init(
                project=self._project,
                entity=self._entity,
                id=run.id,
                name=str(run.path),
                # An evaluation has nothing to add to the settings.
                config=dict(run.config) if run.start is not None else None,
                allow_val_change=True,
                # Offline, there is nothing to look up: the id alone connects the parts.
                resume="allow" if online else None,
                dir=os.environ.get("WANDB_DIR", directory.resolve()),
                settings=settings,
            )
        except (wandb.Error, OSError) as error:
            raise UserError(
                f"--writers=wandb cannot start: {reason(error)}; {_WAY_OUT}"
            ) from None
        self._run.define_metric(_STEP, hidden=True)
        self._run.define_metric("*", step_metric=_STEP)
        if not online:
            return f"W&B is {mode}: {pathlib.Path(self._run.dir).parent}"
        self.remember(run, {"id": self._run.id, "link": self._run.url})
        return f"W&B: {self._run.url}"

    def record(self, summary: Summary) -> None:
        """Logs a summary as one row, with its step."""
        import wandb

        if self._run is None:
            return
        row: dict[str, Any] = dict(summary.scalars)
        for name, histogram in summary.histograms.items():
            pair = histogram.counts.tolist(), histogram.edges.tolist()
            row[name] = wandb.Histogram(np_histogram=pair)
        row |= {name: wandb.Image(image) for name, image in summary.images.items()}
        for name, page in summary.pages.items():
            row[name] = wandb.Html(page, inject=False)
        named = {summary.prefix + name: value for name, value in row.items()}
        self._run.log({_STEP: summary.step, **named})

    def finish(self, error: BaseException | None) -> None:
        """Uploads what is left, and ends the run with the exit code of its error."""
        if self._run is not None:
            code = 0 if error is None else getattr(error, "exit_code", 1)
            self._run.finish(exit_code=code)
