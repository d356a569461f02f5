"""Messages at the end of a training run."""

import contextlib
import signal
from collections.abc import Iterator

from cifar_jax.config.config import Config
from cifar_jax.console import Log
from cifar_jax.devices import memory
from cifar_jax.errors import DivergedError, Stopped
from cifar_jax.runs import checkpoints
from cifar_jax.runs.run_dir import Run
from cifar_jax.training.loop import Moment


@contextlib.contextmanager
def explain_divergence(run: Run | None) -> Iterator[None]:
    """Adds to the error of a diverged run what was saved of it."""
    try:
        yield
    except DivergedError as error:
        saved = checkpoints.steps(run.checkpoints, run.id) if run is not None else []
        kept = "nothing was saved yet"
        if run is not None and saved:
            kept = f"the last checkpoint is {run.checkpoints / str(saved[-1])}"
        raise DivergedError(
            f"{error}; {kept}; try a lower --learning_rate in another --train_dir"
        ) from None


def explain_shortage(config: Config) -> contextlib.AbstractContextManager[None]:
    """Returns a context that explains how to save memory if there is not enough."""
    return memory.shortage_as_run_error(
        f"batches of {config.batch_size} images",
        "lower --batch_size or --image_size, or use a smaller --model; --use_fp16 and, "
        "with many images, --stream save memory, too",
    )


def say_why_it_ended(
    now: Moment, start: int, max_steps: int, run: Run | None, log: Log
) -> None:
    """Logs why a run ended early; raises Stopped if it was a signal."""
    kept = "nothing is saved without a train_dir"
    if run is not None:
        kept = f"saved {run.checkpoints / str(now.step)}; run the same command to "
        kept += "continue from it"
    if isinstance(now.stopped, signal.Signals):
        raise Stopped(now.stopped, f"before step {now.step}; {kept}")
    if start == max_steps:
        log(f"already at step {start}, which is --max_steps: nothing to do")
    elif now.stopped is not None and now.step < max_steps:
        log(f"stopped early at step {now.step}: {now.stopped}")
