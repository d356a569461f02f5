"""Agreement among the processes of a run."""

from cifar_jax.devices import processes
from cifar_jax.training.loop import Hook, Moment


class Agreement(Hook):
    """Stops a process if another one of the run stops; it comes last."""

    def __call__(self, now: Moment) -> None:
        """Asks to stop if any process does."""
        stops = processes.all_gather(now.stopped is not None)
        if stops.any() and now.stopped is None:
            now.stop(f"process {stops[:, 0].argmax()} stopped")
