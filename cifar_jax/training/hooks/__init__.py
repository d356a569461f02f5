"""Everything that happens around the training steps, one hook per file."""

from collections.abc import Callable

from cifar_jax.config.config import Config
from cifar_jax.console import Log
from cifar_jax.devices import processes
from cifar_jax.runs.run_dir import Run
from cifar_jax.training.hooks.checkpoints import Checkpoints
from cifar_jax.training.hooks.finite import Finite
from cifar_jax.training.hooks.log import LogLines, now
from cifar_jax.training.hooks.summaries import Summaries
from cifar_jax.training.hooks.trace import Trace
from cifar_jax.training.loop import Hook, Steps
from cifar_jax.training.program import Program
from cifar_jax.training.train_state import TrainState
from cifar_jax.writers import Summary, Writers


def create_hooks(
    config: Config,
    program: Program,
    steps: Steps,
    state: TrainState,
    run: Run | None,
    writers: Writers,
    log: Log,
) -> list[Hook]:
    """Returns the hooks of every run, which come before any others.

    The first ones ensure that nothing is lost, whatever the later ones raise.
    """
    found: list[Hook] = [Finite(program, steps, state)]
    if run is not None:
        found.append(Checkpoints(run, config, log))
    found.append(LogLines(config, program, int(state.step), writers, log))
    if run is not None:
        frequency = config.summary_frequency
        found.append(Summaries(program, steps, state, frequency, writers))
    if run is not None and config.profile and processes.is_main():
        found.append(Trace(run.path / "profile", config.max_steps, log))
    return found


def create_recorder(
    writers: Writers, log: Log
) -> Callable[[int, dict[str, float]], None]:
    """Returns the function that records the results of hooks in the log and on disk."""

    def record(step: int, numbers: dict[str, float]) -> None:
        words = ", ".join(f"{name} = {value:.4g}" for name, value in numbers.items())
        log(f"{now()}: step {step}, {words}")
        writers.write(Summary("hooks", step, numbers))

    return record
