"""Opens a run: a new one, or one that is to be resumed."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

from cifar_jax.config.config import Config
from cifar_jax.data import Dataset
from cifar_jax.devices import processes
from cifar_jax.errors import UserError
from cifar_jax.runs import checkpoints, run_dir
from cifar_jax.runs.run_dir import Run


class Opened(NamedTuple):
    """A run, held by this training alone.

    Attributes:
        run: on disk; None if nothing is to be written.
        step: of the checkpoint to resume from; None: the run is a new one.
    """

    run: Run | None
    step: int | None


@contextlib.contextmanager
def open_run(config: Config, dataset: Dataset, network: str | None) -> Iterator[Opened]:
    """Claims the directory of a run, in the main process for all of them.

    Nothing in it changes: `run_dir.write_config` is called when the training starts.

    Args:
        config: of the run.
        dataset: likewise.
        network: see `Run`.

    Raises:
        UserError: the processes of the run have other settings or data, the directory
            cannot be used, or it holds a run that this one would not continue.
        RunError: all of its checkpoints are damaged.
    """
    processes.check_same(run_dir.identity(config, dataset, network))
    if config.train_dir is None:
        yield Opened(None, None)
        return
    run = run_dir.from_config(config, dataset, network)
    with contextlib.ExitStack() as stack:
        claimed = processes.run_on_main(lambda: stack.enter_context(run_dir.claim(run)))
        # The main process alone writes, and checks what has been written.
        run = claimed or dataclasses.replace(run, id=None)
        newest = processes.run_on_main(
            lambda: checkpoints.newest_step(run.checkpoints, run.id)
        )
        step = int(processes.all_gather(-1 if newest is None else newest)[0, 0])
        if step > config.max_steps:
            raise UserError(
                f"--max_steps={config.max_steps} is below step {step}, which the run "
                f"in {run.path} has reached; raise it, or choose another --train_dir"
            )
        yield Opened(run, None if step < 0 else step)
