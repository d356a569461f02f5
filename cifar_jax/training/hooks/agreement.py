"""Agreement among the processes of a run to stop."""

from cifar_jax.devices import processes
from cifar_jax.training.loop import Hook, Moment


class Agreement(Hook):
    """Stops a process if another process of the run stops; must be the last hook."""

    def __call__(self, now: Moment) -> None:
        """Asks to stop if any process stops."""
        stops = processes.all_gather(now.stopped is not None)
        if stops.any() and now.stopped is None:
            now.stop(f"process {stops[:, 0].argmax()} stopped")
